"""Faults of an annotation's ``segmentation`` as the JSON says it: polygons and run lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detr_d2.labels.run_lengths import decompressed

from .boxes import EDGE, Place
from .faults import Fault, shown
from .values import is_number, is_whole


def mask_faults(entry: dict[str, Any], width: int, height: int, place: Place) -> Iterator[Fault]:
    """Faults of ``segmentation``, which may be absent; a picture of 0 by 0 is one of unknown size."""
    if "segmentation" not in entry:
        return
    value = entry["segmentation"]
    if value is None or value == [] or value == {}:
        yield place.fault("mask-empty", f"has segmentation={value!r}.")
    elif isinstance(value, list):
        yield from _polygon_faults(value, width, height, place)
    elif isinstance(value, dict):
        yield from _run_faults(value, width, height, place)
    else:
        yield place.fault("mask-type", f"has segmentation={shown(value)}.")


def _polygon_faults(polygons: list[Any], width: int, height: int, place: Place) -> Iterator[Fault]:
    for number, polygon in enumerate(polygons):
        here = f"(polygon {number})"
        if not isinstance(polygon, list):
            yield place.fault("mask-type", f"{here} is {shown(polygon)}; a polygon is a list of x0, y0, x1, y1, ...")
            return
        if not all(map(is_number, polygon)):
            wrong = next(value for value in polygon if not is_number(value))
            yield place.fault("polygon-points", f"{here} has {shown(wrong)} for a coordinate.")
        elif len(polygon) < 6:
            yield place.fault("polygon-points", f"{here} has {len(polygon) / 2:g} points.")
        elif len(polygon) % 2:
            yield place.fault("polygon-points", f"{here} has {len(polygon)} coordinates, an odd number.")
        elif width:
            yield from _outside_faults(polygon, width, height, place, here)


def _outside_faults(polygon: list[float], width: int, height: int, place: Place, here: str) -> Iterator[Fault]:
    left, right, top, bottom = min(polygon[::2]), max(polygon[::2]), min(polygon[1::2]), max(polygon[1::2])
    reach = f"reaches from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) in a picture of {width}x{height}"
    if left > width or top > height or right < 0 or bottom < 0:
        yield place.fault("polygon-outside", f"{here} {reach}.")
    elif left < -EDGE or top < -EDGE or right > width + EDGE or bottom > height + EDGE:
        yield place.fault("polygon-beyond", f"{here} {reach}.")


def _run_faults(runs: dict[str, Any], width: int, height: int, place: Place) -> Iterator[Fault]:
    size, counts = runs.get("size"), runs.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(is_whole(side) and side > 0 for side in size):
        yield place.fault("rle-size", f"has run lengths of size={shown(size)}; it must be [height, width].")
        return
    if width and size != [height, width]:
        yield place.fault("rle-size", f"has run lengths of size {shown(size)}; its picture is [{height}, {width}].")
        return
    if isinstance(counts, list):
        yield place.fault("rle-uncompressed", "has run lengths as a list of numbers.")
        lengths = counts if all(map(is_whole, counts)) else None
    else:
        lengths = decompressed(counts) if isinstance(counts, str) else None
    if lengths is None:
        yield place.fault("rle-counts", f"has counts={shown(counts)}, which are no run lengths.")
    elif min(lengths, default=0) < 0 or sum(lengths) != size[0] * size[1]:
        yield place.fault(
            "rle-counts", f"has runs of {sum(lengths)} pixels together; {shown(size)} are {size[0] * size[1]}."
        )
    elif not sum(lengths[1::2]):
        yield place.fault("mask-empty", "has run lengths without a pixel.")
