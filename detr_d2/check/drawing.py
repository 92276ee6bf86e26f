"""Faults of the objects of one picture that show once their masks are drawn: crossings, overlaps, stale boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import shapely
from pycocotools import mask as coco_mask

from detr_d2.labels.polygons import has_holes, polygons_runs

from .boxes import Place, is_crowd
from .faults import Fault, fault, shown
from .images import ListedPicture
from .masks import mask_faults
from .values import is_number

#: Two objects overlap when they share more than this of the smaller one, and so many pixels.
OVERLAP_SHARE, OVERLAP_PIXELS = 0.01, 4
#: In a picture of more objects, only so many are compared with one another.
MOST_COMPARED = 2000
#: The area of polygons may differ from that of their pixels by this share, and so many pixels.
AREA_SHARE, AREA_PIXELS = 0.1, 10

_HARMLESS = {"mask-empty", "rle-uncompressed", "polygon-beyond"}


def drawing_faults(entries: Sequence[dict[str, Any]], listed: ListedPicture, file: str) -> Iterator[Fault]:
    """Faults of the annotations of one picture, whose size is known.

    Args:
        entries: its annotations; those whose segmentation is wrong by itself are passed by.
        listed: the picture.
        file: the JSON.
    """
    if not listed.width:
        return
    drawn: list[tuple[dict[str, Any], Any]] = []
    for entry in entries:
        segmentation = entry.get("segmentation")
        place = _place(entry, listed.image_id, file)
        wrong = (found.code for found in mask_faults(entry, listed.width, listed.height, place))
        if not segmentation or not set(wrong) <= _HARMLESS:
            continue
        if isinstance(segmentation, list):
            yield from _crossing_faults(segmentation, place)
        runs = runs_of(segmentation, listed)
        yield from drawn_faults(entry, runs, listed, place)
        if not is_crowd(entry):
            drawn.append((entry, runs))
    yield from _overlap_faults(drawn, listed.image_id, file)


def _place(entry: dict[str, Any], image_id: Any, file: str) -> Place:
    return Place(file, image_id, entry.get("id"), f"annotation {shown(entry.get('id'))}")


def runs_of(segmentation: Any, listed: ListedPicture) -> Any:
    """The mask in pycocotools' form; run lengths and points have been looked at before."""
    if isinstance(segmentation, list):
        return polygons_runs(segmentation, listed.height, listed.width)
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, listed.height, listed.width)
    return segmentation


def _crossing_faults(polygons: list[list[float]], place: Place) -> Iterator[Fault]:
    for number, polygon in enumerate(polygons):
        shape = shapely.Polygon(np.reshape(polygon, (-1, 2)))
        if not shape.is_valid:
            why = shapely.is_valid_reason(shape)
            if why.startswith("Self-intersection"):
                x, y = map(float, why[why.index("[") + 1 : -1].split())
                yield place.fault("polygon-crossing", f"(polygon {number}) crosses itself at ({x:.1f}, {y:.1f}).")


def drawn_faults(entry: dict[str, Any], runs: Any, listed: ListedPicture, place: Place) -> Iterator[Fault]:
    """Faults of one annotation whose mask is ``runs``: no pixel, and an area or a box of something else."""
    exact = isinstance(entry["segmentation"], dict)
    pixels = int(coco_mask.area(runs))
    if pixels == 0:
        if not exact:  # run lengths have been counted before
            yield place.fault("mask-empty", "has polygons that cover no pixel.")
        return
    area = entry.get("area")
    filled = pixels
    if not exact and has_holes(entry["segmentation"]):
        filled = int(coco_mask.area(polygons_runs(entry["segmentation"], listed.height, listed.width, True)))
        message = f"has polygons inside polygons: filled they have {filled} pixels, as holes {pixels}"
        yield place.fault("polygon-holes", f"{message}; area={area:g}." if is_number(area) else f"{message}.")
    if is_number(area) and area > 0 and not any(_is_near(area, meant, exact) for meant in (pixels, filled)):
        yield place.fault("area-stale", f"has area={area:g}; its mask has {pixels} pixels.")
    boxes = [[round(side) for side in coco_mask.toBbox(runs)]]
    if not exact:
        boxes.append(_corner_box(entry["segmentation"]))
    yield from box_difference_fault(entry.get("bbox"), boxes, place, exact)


def _is_near(area: float, pixels: int, exact: bool) -> bool:
    return abs(area - pixels) <= (0.5 if exact else AREA_SHARE * pixels + AREA_PIXELS)


def _corner_box(polygons: list[list[float]]) -> list[float]:
    """x, y, width, height of the corners, as tools write them; slivers at their ends may have no pixel."""
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons])
    low, high = points.min(axis=0), points.max(axis=0)
    return [round(float(side), 2) for side in (*low, *(high - low))]


def box_difference_fault(
    said: Any, found: Sequence[Sequence[float]], place: Place, exact: bool = True
) -> Iterator[Fault]:
    """A box against the ones that its mask has; it has to be near one of them, all as x, y, width, height.

    A pixel or two are a matter of counting, or of rounding polygons (``exact`` is False, and they are nothing); more,
    and the box is of something else.
    """
    if not isinstance(said, list) or len(said) != 4 or not all(map(is_number, said)) or min(said[2:]) <= 0:
        return
    edges = [np.array([x, y, x + w, y + h]) for x, y, w, h in (said, *found)]
    difference = min(np.abs(edges[0] - other).max() for other in edges[1:])
    message = f"has bbox={[round(side, 2) for side in said]}; its mask has {list(found[0])}."
    if difference > 2:
        yield place.fault("box-stale", message)
    elif exact and difference >= 1 - 1e-6:
        yield place.fault("box-off", message)


def _overlap_faults(drawn: list[tuple[dict[str, Any], Any]], image_id: Any, file: str) -> Iterator[Fault]:
    if len(drawn) > MOST_COMPARED:
        message = f"has {len(drawn)} objects; overlaps were looked for among the first {MOST_COMPARED} only."
        yield fault("overlap", file, message, image_id)
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
        # One fault an object: thousands on a heap would be millions of pairs.
        first = int(np.where(overlapping[:, second], shared[:, second], -1).argmax())
        others = int(overlapping[:, second].sum()) - 1
        more = f", and some with {others} other{'s'[: others != 1]}" if others else ""
        message = f"shares {shared[first, second]:.0f} pixels with annotation {shown(drawn[first][0].get('id'))}{more}."
        yield _place(drawn[second][0], image_id, file).fault("overlap", message)
