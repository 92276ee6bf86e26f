"""Shapes as CVAT's XML writes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from xml.etree.ElementTree import Element

from ..image_size import MOST_PIXELS
from ..polygons import MOST_COORDINATE, is_polygon
from ..records import Box, Ellipse, Polygons, Runs, Shape
from .shapes import BadShape


def shape_of(element: Element, width: int, height: int) -> Shape:
    """A ``box``, ``polygon``, ``ellipse`` or ``mask``.

    Args:
        element: of the XML.
        width, height: of its image, in pixels; 0 where they aren't known.

    Raises:
        BadShape: it can't be drawn.
    """
    return SHAPES[element.tag](element, width, height)


def _number(element: Element, key: str, default: str = "") -> float:
    text = element.get(key, default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < MOST_COORDINATE:
        raise BadShape("shape-number", f"has {key}={text[:30]!r}, which is no number of pixels")
    return value


def _box(element: Element, width: int, height: int) -> Shape:
    left, top, right, bottom = (_number(element, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    if right <= left or bottom <= top:
        raise BadShape("box-empty", f"reaches from ({left:g}, {top:g}) to ({right:g}, {bottom:g})")
    return Box(left, top, right, bottom, _number(element, "rotation", "0"))


def _ellipse(element: Element, width: int, height: int) -> Shape:
    x, y, radius_x, radius_y = (_number(element, key) for key in ("cx", "cy", "rx", "ry"))
    if min(radius_x, radius_y) <= 0:
        raise BadShape("mask-empty", f"has half axes of {radius_x:g} and {radius_y:g} pixels")
    return Ellipse(x, y, radius_x, radius_y, _number(element, "rotation", "0"))


def _polygon(element: Element, width: int, height: int) -> Shape:
    pairs = element.get("points", "").split(";")
    try:
        numbers = tuple(float(number) for x, y in (pair.split(",") for pair in pairs) for number in (x, y))
    except ValueError:
        numbers = ()
    if not is_polygon(numbers):
        raise BadShape("polygon-points", "isn't x and y of three points or more, all finite")
    return Polygons((numbers,))


def _mask(element: Element, width: int, height: int) -> Shape:
    left, top, columns, rows = (_number(element, key) for key in ("left", "top", "width", "height"))
    if not 0 < columns * rows <= MOST_PIXELS or columns < 1 or any(n % 1 for n in (left, top, columns, rows)):
        raise BadShape("rle-size", f"is said to be {columns:g}x{rows:g} pixels")
    if width and not (0 <= left <= width - columns and 0 <= top <= height - rows):
        raise BadShape("rle-size", f"of {columns:g}x{rows:g} pixels at ({left:g}, {top:g}) leaves its image")
    try:
        counts = tuple(map(int, element.get("rle", "").split(",")))
    except ValueError:
        counts = (-1,)
    if min(counts) < 0 or sum(counts) != columns * rows:
        raise BadShape("rle-counts", f"has run lengths that don't fill its {columns:g}x{rows:g} pixels")
    if not any(counts[1::2]):
        raise BadShape("mask-empty", "has no pixel")
    return Runs((int(rows), int(columns)), counts, int(left), int(top), by_rows=True)


#: The shapes that cover pixels, by their name in the XML.
SHAPES: dict[str, Callable[[Element, int, int], Shape]] = {
    "box": _box,
    "ellipse": _ellipse,
    "polygon": _polygon,
    "mask": _mask,
}
