"""Masks as polygons along the edges of pixels: drawn as pycocotools draws, they are the masks again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely

Ring = list[float]
"""x0, y0, x1, y1, ... in pixels; the last point isn't the first."""


class Outline(NamedTuple):
    """A polygon without holes that shows a part of a segment.

    Args:
        segment: index of the segment.
        ring: the polygon.
        order: to be drawn in rising order: what lies in a hole of another one is above it.
    """

    segment: int
    ring: Ring
    order: int


def polygons_of(mask: np.ndarray) -> list[Ring]:
    """Polygons along the edges of a mask's pixels, without holes; drawn, they are the mask.

    A mask with holes is cut in pieces that have none.

    Args:
        mask: (H, W) bool.
    """
    pieces, polygons = _pieces(mask), []
    while pieces:
        piece = pieces.pop()
        if piece.geom_type == "Polygon" and piece.interiors:
            left, low, right, high = piece.bounds
            column = int(piece.interiors[0].bounds[0] + piece.interiors[0].bounds[2]) // 2  # through the hole
            for half in (shapely.box(left, low, column, high), shapely.box(column, low, right, high)):
                pieces += shapely.get_parts(piece & half).tolist()
        elif piece.geom_type == "Polygon":
            polygons.append(_ring(piece.exterior, 0))
    return polygons


def outlines_of(masks: Sequence[np.ndarray], tolerance: float = 0) -> list[Outline]:
    """The segments of a panoptic map as polygons that people can correct: few points, no holes, drawn over one another.

    Holes are filled, and what lies in them is drawn above: drawn in their order, polygons show the map, but for void in
    holes. A segment with a part in one of its own holes is cut in pieces, as one of its polygons would hide the other.

    Args:
        masks: (H, W) bool, no pixel in two of them.
        tolerance: pixels by which a polygon may leave the pixels' edges, to have fewer points; 0: not at all.

    Returns:
        Polygons in the order in which they are drawn, the largest first.
    """
    found: list[tuple[float, int, Ring]] = []
    for index, mask in enumerate(masks):
        parts = _pieces(mask)
        filled = [shapely.Polygon(part.exterior) for part in parts]
        if _has_nested(parts, filled):
            filled = [shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in polygons_of(mask)]
        found += [(part.area, index, _ring(part.exterior, tolerance)) for part in filled]
    found.sort(key=lambda one: -one[0])
    return [Outline(index, ring, order) for order, (_, index, ring) in enumerate(found)]


def _pieces(mask: np.ndarray) -> list[Any]:
    """The mask's parts as shapely's polygons; pixels that touch at a corner are two parts."""
    y, x = np.nonzero(np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0))  # ends of runs, two by two
    runs = shapely.box(x[::2], y[::2], x[1::2], y[::2] + 1)
    parts: list[Any] = shapely.get_parts(shapely.unary_union(runs)).tolist()
    return parts


def _has_nested(parts: Sequence[Any], filled: Sequence[Any]) -> bool:
    """Whether a part lies in a hole of another one."""
    return any(
        part.interiors and any(shapely.covers(outer, other) for other in parts if other is not part)
        for part, outer in zip(parts, filled, strict=True)
    )


def _ring(exterior: Any, tolerance: float) -> Ring:
    straight = exterior.simplify(0)
    fewer = shapely.Polygon(straight).simplify(tolerance).exterior if tolerance else straight
    ring: Ring = np.asarray(fewer.coords)[:-1].ravel().tolist()
    return ring
