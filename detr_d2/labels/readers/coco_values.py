"""Values of COCO JSON files of unknown origin: read only if memory allows, each taken for what it can be.

Source: the exports of CVAT; its rectangles have no outline, their ``area`` is width times height; its brush masks and
ellipses are uncompressed run lengths with ``iscrowd: 1``.
"""

from __future__ import annotations

import io
import math
from typing import Any

from detr_d2.errors import DatasetError

from ..json_reading import json_type, parse_json
from ..memory import memory_free
from ..polygons import MOST_COORDINATE
from ..records import Box, FileRef, Polygons, Runs, Shape
from ..run_lengths import decompressed
from .shapes import BadShape

#: Bytes that what begins after a sign takes once it is read.
_COSTS = {b",": 40, b"{": 240, b"[": 80}
_RECTANGLE = 1e-3
Id = int | str


def load_json(file: FileRef) -> dict[str, Any]:
    """The object at the top of a JSON file.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read, isn't JSON, isn't an object, or wouldn't fit into memory.
    """
    content = file.read()
    needed = 2 * len(content) + sum(cost * content.count(sign) for sign, cost in _COSTS.items())
    free = memory_free()
    if needed > free:
        raise DatasetError(
            f"{file} would take about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free. "
            "Split it by images, or take a machine with more memory."
        )
    try:
        top = parse_json(io.BytesIO(content))
    except ValueError as error:
        raise DatasetError(f"{file} isn't JSON: {error}. Export it again, or restore it.") from error
    if not isinstance(top, dict):
        raise DatasetError(f"{file} has {json_type(top)} at its top; COCO files have an object.")
    return top


def id_of(value: Any) -> Id | None:
    """An id as others refer to it: a whole number, also where it is written as a text; a word; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, str) and len(value) < 19 and value.isdecimal() and str(int(value)) == value:
        return int(value)
    return value


def number_of(value: Any) -> int:
    """An annotation's id for messages; 0 for what is no whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else 0


def color_of(value: Any) -> tuple[int, int, int] | None:
    """A colour; None for what isn't red, green and blue from 0 to 255."""
    if isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value):
        return (value[0], value[1], value[2])
    return None


def finite_numbers(values: Any, count: int | None = None) -> tuple[float, ...] | None:
    """A list of finite numbers, so many of them if ``count`` says; None for all else."""
    if not isinstance(values, list) or (count is not None and len(values) != count):
        return None
    if not set(map(type, values)) <= {int, float}:  # JSON's truth values are of another type
        return None
    try:
        found = tuple(map(float, values))
    except OverflowError:
        return None
    is_finite = math.isfinite(sum(found)) and min(found, default=0.0) > -1e300 and max(found, default=0.0) < 1e300
    return found if is_finite else None


def shape_of(annotation: dict[str, Any], width: int, height: int) -> Shape:
    """The shape of an annotation; polygons may be among it that can't be drawn.

    Args:
        annotation: as the JSON has it.
        width, height: of its image, in pixels; 0 where they aren't known.

    Raises:
        BadShape: there is none.
    """
    value = annotation.get("segmentation")
    if value is None or value == [] or value == {}:
        box = _rectangle(annotation)
        if box is None:
            raise BadShape("mask-empty", "has neither an outline nor a rectangle")
        return box
    if isinstance(value, dict):
        return _runs(value, width, height)
    if not isinstance(value, list):
        raise BadShape("mask-type", "has a segmentation that is neither polygons nor run lengths")
    if not all(isinstance(polygon, list) for polygon in value):
        raise BadShape("mask-type", "has a list of numbers for its outline, where a list of polygons is needed")
    return Polygons(tuple(finite_numbers(polygon) or () for polygon in value))


def _rectangle(annotation: dict[str, Any]) -> Box | None:
    """What CVAT writes for a rectangle; None for anything else without an outline."""
    box, area = finite_numbers(annotation.get("bbox"), 4), annotation.get("area")
    if box is None or min(box[2:]) <= 0 or max(map(abs, box)) >= MOST_COORDINATE:
        return None
    if not isinstance(area, int | float) or abs(area - box[2] * box[3]) > _RECTANGLE * box[2] * box[3] + 0.1:
        return None
    attributes = annotation.get("attributes")
    turned = attributes.get("rotation") if isinstance(attributes, dict) else None
    rotation = float(turned) if isinstance(turned, int | float) and -1e6 < turned < 1e6 else 0.0
    return Box(box[0], box[1], box[0] + box[2], box[1] + box[3], rotation)


def _runs(value: dict[str, Any], width: int, height: int) -> Runs:
    size, counts = finite_numbers(value.get("size"), 2), value.get("counts")
    if size is None or (width and size != (height, width)):
        shown = f"of {size[1]:g}x{size[0]:g} pixels" if size else "of no size"
        raise BadShape("rle-size", f"has a mask {shown}, and its image is {width}x{height}")
    lengths = decompressed(counts) if isinstance(counts, str) else counts
    whole = isinstance(lengths, list) and all(type(length) is int and length >= 0 for length in lengths)
    if not whole or lengths is None or sum(lengths) != size[0] * size[1]:
        raise BadShape("rle-counts", "has run lengths that don't fill its image")
    if not any(lengths[1::2]):
        raise BadShape("mask-empty", "has run lengths without a pixel")
    return Runs((int(size[0]), int(size[1])), counts.encode("ascii") if isinstance(counts, str) else tuple(lengths))
