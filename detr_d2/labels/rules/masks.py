"""Rules of an annotation's ``segmentation``: polygons and run lengths as the JSON says them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from pycocotools import mask as coco_mask

from ..polygons import decompressed, polygons_runs
from ..values import are_numbers, is_number, is_whole, shown
from .boxes import EDGE, Size
from .rule import RULES, Done, Finding, Place, fixing

MASK_TYPE = RULES["mask-type"]
MASK_EMPTY = RULES["mask-empty"]
POLYGON_POINTS = RULES["polygon-points"]
POLYGON_OUTSIDE = RULES["polygon-outside"]
POLYGON_HOLES = RULES["polygon-holes"]
RLE_SIZE = RULES["rle-size"]
RLE_COUNTS = RULES["rle-counts"]
RLE_UNCOMPRESSED = RULES["rle-uncompressed"]
POLYGON_BEYOND = RULES["polygon-beyond"]


def mask_rules(label: dict[str, Any], size: Size, place: Place) -> Iterator[Finding]:
    """Findings about ``segmentation``, which may be absent.

    Args:
        label: an annotation.
        size: of its image; 0 and 0: not known.
        place: of the annotation.
    """
    if "segmentation" not in label:
        return
    value = label["segmentation"]
    if value is None or value == [] or value == {}:
        yield place.found(MASK_EMPTY, f"has segmentation={value!r}.", lambda: without_mask(label))
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
        yield place.found(MASK_TYPE, f"has segmentation={shown(value)}.", lambda: without_mask(label))


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


def compressed(runs: Any) -> dict[str, Any]:
    """pycocotools' form as JSON holds it."""
    return {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")}


def _polygon_rules(polygon: Any, number: int, size: Size, place: Place) -> Iterator[Finding]:
    here = f"(polygon {number})"
    if not isinstance(polygon, list):
        message = f"{here} is {shown(polygon)}; a polygon is a list of x0, y0, x1, y1, ..."
        yield place.found(MASK_TYPE, message)
    elif not are_numbers(polygon):
        wrong = next(value for value in polygon if not is_number(value))
        yield place.found(POLYGON_POINTS, f"{here} has {shown(wrong)} for a coordinate.")
    elif len(polygon) < 6:
        yield place.found(POLYGON_POINTS, f"{here} has {len(polygon) / 2:g} points.")
    elif len(polygon) % 2:
        yield place.found(POLYGON_POINTS, f"{here} has {len(polygon)} coordinates, an odd number.")
    elif size[0]:
        width, height = size
        left, right, top, bottom = min(polygon[::2]), max(polygon[::2]), min(polygon[1::2]), max(polygon[1::2])
        if left >= -EDGE and top >= -EDGE and right <= width + EDGE and bottom <= height + EDGE:
            return
        reach = f"reaches from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) in an image of {width}x{height}"
        is_outside = left > width or top > height or right < 0 or bottom < 0
        yield place.found(POLYGON_OUTSIDE if is_outside else POLYGON_BEYOND, f"{here} {reach}.")


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
    broken = [finding.rule for finding in _polygon_rules(polygon, 0, size, Place(""))]
    if broken != [POLYGON_BEYOND]:
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
        yield place.found(RLE_SIZE, f"has run lengths of size={shown(said)}; it must be [height, width].")
        return
    if width and said != [height, width]:
        yield place.found(RLE_SIZE, f"has run lengths of size {shown(said)}; its image is [{height}, {width}].")
        return
    if isinstance(counts, list):
        lengths = counts if all(map(is_whole, counts)) else None
    else:
        lengths = decompressed(counts) if isinstance(counts, str) else None
    if lengths is None:
        yield place.found(RLE_COUNTS, f"has counts={shown(counts)}, which are no run lengths.", fix)
    elif min(lengths, default=0) < 0 or sum(lengths) != said[0] * said[1]:
        message = f"has runs of {sum(lengths)} pixels together; {shown(said)} are {said[0] * said[1]}."
        yield place.found(RLE_COUNTS, message, fix)
    elif not sum(lengths[1::2]):
        yield place.found(MASK_EMPTY, "has run lengths without a pixel.", fix)
    if isinstance(counts, list) and label.get("segmentation") is runs:
        compress = lambda: label.update(segmentation=compressed(coco_mask.frPyObjects(runs, *said)))  # noqa: E731
        fix = fixing("the run lengths are compressed now", compress)
        yield place.found(RLE_UNCOMPRESSED, "has run lengths as a list of numbers.", fix)
