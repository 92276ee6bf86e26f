"""Rules of an annotation's ``segmentation``: as the JSON says it, and as it is drawn, with its box and area."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import shapely
from pycocotools import mask as coco_mask

from ..polygons import has_holes, polygons_runs
from ..run_lengths import compressed, decompressed
from ..values import Size, are_numbers, is_number, is_whole, shown
from .annotations import EDGE, Extent, area_rules, box_rules, extent_rules, is_crowd
from .rule import Done, Finding, Place, fixing

#: Two objects overlap when they share more than this of the smaller one, and so many pixels.
OVERLAP_SHARE, OVERLAP_PIXELS = 0.01, 4
#: In an image of more objects, only so many are compared with one another.
MOST_COMPARED = 2000
#: The area of polygons may differ from their pixels by this share, and so many pixels; that of runs by half a one.
AREA_SHARE, AREA_PIXELS, RUNS_PIXELS = 0.1, 10, 0.5

_DRAWABLE = ("mask-empty", "rle-uncompressed", "polygon-beyond")


def mask_rules(label: dict[str, Any], size: Size, place: Place) -> Iterator[Finding]:
    """Findings about the ``segmentation`` of an annotation, which may be absent; ``size`` 0 and 0: not known."""
    if "segmentation" not in label:
        return
    value = label["segmentation"]
    if value is None or value == [] or value == {}:
        yield place.found("mask-empty", f"has segmentation={value!r}.", lambda: without_mask(label))
    elif isinstance(value, list):
        for number, polygon in enumerate(value):
            for finding in _polygon_rules(polygon, number, size, place):
                yield finding._replace(fix=lambda: _keep_polygons(label, size))
                if label.get("segmentation") is not value:
                    return  # the fix was of all of them
            if not isinstance(polygon, list):
                return
    elif isinstance(value, dict):
        yield from _run_rules(label, value, size, place)
    else:
        yield place.found("mask-type", f"has segmentation={shown(value)}.", lambda: without_mask(label))


def without_mask(label_: dict[str, Any]) -> Done:
    """Leaves a mask out and keeps the box: CVAT writes rectangles so."""
    return Done("removed", f"its mask ({shown(label_.pop('segmentation'))}) is left out; its box stays")


def runs_of(segmentation: Any, size: Size) -> Any:
    """The mask in pycocotools' form; run lengths and points have been looked at before."""
    width, height = size
    if isinstance(segmentation, list):
        return polygons_runs(segmentation, height, width)
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def _polygon_rules(polygon: Any, number: int, size: Size, place: Place) -> Iterator[Finding]:
    here = f"(polygon {number})"
    if not isinstance(polygon, list):
        message = f"{here} is {shown(polygon)}; a polygon is a list of x0, y0, x1, y1, ..."
        yield place.found("mask-type", message)
    elif not are_numbers(polygon):
        wrong = next(value for value in polygon if not is_number(value))
        yield place.found("polygon-points", f"{here} has {shown(wrong)} for a coordinate.")
    elif len(polygon) < 6:
        yield place.found("polygon-points", f"{here} has {len(polygon) / 2:g} points.")
    elif len(polygon) % 2:
        yield place.found("polygon-points", f"{here} has {len(polygon)} coordinates, an odd number.")
    elif size[0]:
        width, height = size
        left, right, top, bottom = min(polygon[::2]), max(polygon[::2]), min(polygon[1::2]), max(polygon[1::2])
        if left >= -EDGE and top >= -EDGE and right <= width + EDGE and bottom <= height + EDGE:
            return
        reach = f"reaches from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) in an image of {width}x{height}"
        is_outside = left > width or top > height or right < 0 or bottom < 0
        yield place.found("polygon-outside" if is_outside else "polygon-beyond", f"{here} {reach}.")


def _keep_polygons(label_: dict[str, Any], size: Size) -> Done:
    """Keep what is right of the polygons; without any, the box."""
    value = label_["segmentation"]
    is_flat = all(map(is_number, value)) and len(value) >= 6
    polygons = [value] if is_flat else value
    kept = [part for polygon in polygons for part in _right_parts(polygon, size)]
    if not kept:
        return without_mask(label_)
    label_["segmentation"] = kept
    return Done("fixed", f"{len(kept)} polygons of {len(polygons)}, cut at the image's edge")


def _right_parts(polygon: Any, size: Size) -> list[list[float]]:
    """What is right of a polygon: nothing, itself, or what of it is inside the image."""
    broken = [finding.rule.code for finding in _polygon_rules(polygon, 0, size, Place(""))]
    if broken != ["polygon-beyond"]:
        return [] if broken else [polygon]
    shape = shapely.Polygon(np.reshape(polygon, (-1, 2)))
    if not shape.is_valid:
        return [polygon]
    inside = shapely.intersection(shape, shapely.box(0, 0, *size))
    parts = shapely.get_parts(inside)
    outlines = [np.asarray(part.exterior.coords)[:-1] for part in parts if isinstance(part, shapely.Polygon)]
    return [outline.round(2).ravel().tolist() for outline in outlines if len(outline) >= 3]


def _run_rules(label: dict[str, Any], runs: dict[str, Any], size: Size, place: Place) -> Iterator[Finding]:
    said, counts = runs.get("size"), runs.get("counts")
    (width, height), fix = size, lambda: without_mask(label)
    if not isinstance(said, list) or len(said) != 2 or not all(is_whole(side) and side > 0 for side in said):
        yield place.found("rle-size", f"has run lengths of size={shown(said)}; it must be [height, width].")
        return
    if width and said != [height, width]:
        yield place.found("rle-size", f"has run lengths of size {shown(said)}; its image is [{height}, {width}].")
        return
    if isinstance(counts, list):
        lengths = counts if all(map(is_whole, counts)) else None
    else:
        lengths = decompressed(counts) if isinstance(counts, str) else None
    if lengths is None:
        yield place.found("rle-counts", f"has counts={shown(counts)}, which are no run lengths.", fix)
    elif min(lengths, default=0) < 0 or sum(lengths) != said[0] * said[1]:
        message = f"has runs of {sum(lengths)} pixels together; {shown(said)} are {said[0] * said[1]}."
        yield place.found("rle-counts", message, fix)
    elif not sum(lengths[1::2]):
        yield place.found("mask-empty", "has run lengths without a pixel.", fix)
    if isinstance(counts, list) and label.get("segmentation") is runs:
        compress = lambda: label.update(segmentation=compressed(coco_mask.frPyObjects(runs, *said)))  # noqa: E731
        fix = fixing("the run lengths are compressed now", compress)
        yield place.found("rle-uncompressed", "has run lengths as a list of numbers.", fix)


def drawn_rules(labels: Sequence[dict[str, Any]], size: Size, file: str, image_id: Any) -> Iterator[Finding]:
    """Findings about the annotations of one image that show once their masks are drawn.

    Args:
        labels: its annotations; those whose segmentation is wrong by itself are passed by.
        size: of the image; 0 and 0: not known, and nothing can be drawn.
        file, image_id: whose they are.
    """
    drawn: list[tuple[dict[str, Any], Any]] = []
    for label in labels if size[0] else ():
        segmentation, place = label.get("segmentation"), place_of(label, file, image_id)
        if not segmentation or not all(found.rule.code in _DRAWABLE for found in mask_rules(label, size, place)):
            continue
        for number, polygon in enumerate(segmentation if isinstance(segmentation, list) else ()):
            why = shapely.is_valid_reason(shapely.Polygon(np.reshape(polygon, (-1, 2))))
            if why.startswith("Self-intersection"):
                x, y = map(float, why[why.index("[") + 1 : -1].split())
                message = f"(polygon {number}) crosses itself at ({x:.1f}, {y:.1f})."
                yield place.found("polygon-crossing", message)
        runs = runs_of(segmentation, size)
        extent = extent_of(segmentation, runs, size)
        yield from _filling_rules(label, runs, extent, place)
        if extent is not None:
            yield from extent_rules(label, extent, place)
        if not is_crowd(label):
            drawn.append((label, runs))
    yield from _overlap_rules(drawn, file, image_id)


def object_rules(label: dict[str, Any], size: Size, place: Place) -> Iterator[Finding]:
    """All findings about the mask, box and area of one annotation, in the order in which they can be fixed."""
    yield from mask_rules(label, size, place)
    extent = None
    if label.get("segmentation"):
        drawn = label["segmentation"]
        runs = runs_of(drawn, size)
        extent = extent_of(drawn, runs, size)
        yield from _filling_rules(label, runs, extent, place)
        if extent is not None and label["segmentation"] is not drawn:
            extent = extent_of(label["segmentation"], runs, size)  # its holes are holes now
    yield from box_rules(label, size, place, extent)
    yield from area_rules(label, place, extent)
    if extent is not None:
        yield from extent_rules(label, extent, place)


def place_of(label: dict[str, Any], file: str, image_id: Any) -> Place:
    """Where an annotation is, by its id."""
    return Place(file, image_id, label.get("id"), f"annotation {shown(label.get('id'))}")


def extent_of(segmentation: Any, runs: Any, size: Size) -> Extent | None:
    """Area and box of a mask, of polygons inside polygons also the area with the holes; None where it has no pixel."""
    pixels = int(coco_mask.area(runs))
    if not pixels:
        return None
    box = [round(side) for side in coco_mask.toBbox(runs).tolist()]
    if isinstance(segmentation, dict):
        return Extent("mask", pixels, box, [pixels], RUNS_PIXELS)
    counts = [pixels]
    if has_holes(segmentation):
        counts.append(int(coco_mask.area(polygons_runs(segmentation, size[1], size[0], True))))
    # The box of the corners, as tools write it; slivers at their ends may have no pixel.
    left, right = min(min(ring[::2]) for ring in segmentation), max(max(ring[::2]) for ring in segmentation)
    top, bottom = min(min(ring[1::2]) for ring in segmentation), max(max(ring[1::2]) for ring in segmentation)
    corners = [round(float(side), 2) for side in (left, top, right - left, bottom - top)]
    return Extent("mask", pixels, box, counts, AREA_SHARE * pixels + AREA_PIXELS, corners)


def _filling_rules(label: dict[str, Any], runs: Any, extent: Extent | None, place: Place) -> Iterator[Finding]:
    """Polygons that cover no pixel, or that other programs fill otherwise; run lengths have been counted before."""
    if isinstance(label["segmentation"], dict):
        return
    if extent is None:
        yield place.found("mask-empty", "has polygons that cover no pixel.", lambda: without_mask(label))
    elif len(extent.counts) > 1:
        (holed, filled), area = extent.counts, label.get("area")
        message = f"has polygons inside polygons: filled they have {filled} pixels, as holes {holed}"
        said = f"; area={area:g}" if is_number(area) else ""
        compress = partial(label.update, segmentation=compressed(runs), area=holed)
        fix = fixing("its inner polygons are holes now, in run lengths", compress)
        yield place.found("polygon-holes", f"{message}{said}.", fix)


def _overlap_rules(drawn: list[tuple[dict[str, Any], Any]], file: str, image_id: Any) -> Iterator[Finding]:
    if len(drawn) > MOST_COMPARED:
        message = f"has {len(drawn)} objects; overlaps were looked for among the first {MOST_COMPARED} only."
        yield Place(file, image_id).found("overlap", message)
    drawn = drawn[:MOST_COMPARED]
    runs = [mask for _, mask in drawn]
    areas = np.array([int(coco_mask.area(mask)) for mask in runs])  # of a list of 256 pycocotools counts none
    if len(runs) < 2 or int(coco_mask.area(coco_mask.merge(runs))) == int(areas.sum()):
        return
    shares = coco_mask.iou(runs, runs, [1] * len(runs))  # of a crowd: what is shared, by the first one's area
    shared = np.rint(shares * areas[:, None])
    smaller = np.minimum(areas[:, None], areas[None])
    overlapping = np.triu((shared >= OVERLAP_PIXELS) & (shared > OVERLAP_SHARE * smaller), k=1)
    for second in np.flatnonzero(overlapping.any(axis=0)):
        # One finding an object: thousands on a heap would be millions of pairs.
        first = int(np.where(overlapping[:, second], shared[:, second], -1).argmax())
        others = int(overlapping[:, second].sum()) - 1
        more = f", and some with {others} other{'s'[: others != 1]}" if others else ""
        message = f"shares {shared[first, second]:.0f} pixels with annotation {shown(drawn[first][0].get('id'))}{more}."
        yield place_of(drawn[second][0], file, image_id).found("overlap", message)
