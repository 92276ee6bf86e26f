"""Objects whose outlines are polygons, as the pixels of an image; one rule says which of them are holes.

A ring inside a ring of the same object is the outline of a hole, a ring in a hole that of an island, and so on,
whatever the label's area says: programs that trace the outlines of a mask write those of its holes as polygons, too,
and nobody draws a part of what is drawn already. Rings that only overlap, or run along one another, are united.

And the other way: masks as polygons along the edges of pixels, which are the masks again once pycocotools draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import shapely
from pycocotools import mask as coco_mask

from .values import are_numbers

#: Of labels with more rings than this all are filled.
MOST_RINGS = 2000
#: Pixels by which a hole may pass the ring around it, and a ring that is drawn twice may differ; less area is nothing.
_TOLERANCE = 0.5
#: Polygons are cut so many image sizes away from the image: the time and memory to fill one grow with its reach.
_MARGIN = 2

Ring = Sequence[float]
#: The place of a ring, and those of its holes.
Part = tuple[int, list[int]]


def is_polygon(polygon: Ring) -> bool:
    """Whether something is x0, y0, x1, y1, ... of three points or more, all of them numbers of pixels."""
    return len(polygon) >= 6 and len(polygon) % 2 == 0 and are_numbers(polygon)


def solid_parts(rings: Sequence[Ring]) -> list[Part]:
    """The rings of one object that enclose something of it: the place of each, and of the holes in it, in order."""
    if not 2 <= len(rings) <= MOST_RINGS:
        return [(place, []) for place in range(len(rings))]
    around = _rings_around(rings)
    level = [0] * len(rings)
    for place in sorted(range(len(rings)), key=lambda place: len(around[place])):  # what is around comes first
        level[place] = 1 + max((level[outer] for outer in around[place]), default=-1)
    holes: dict[int, list[int]] = {place: [] for place in range(len(rings)) if level[place] % 2 == 0}
    for place, outer_ones in enumerate(around):
        for outer in outer_ones:
            if level[place] % 2 and level[outer] == level[place] - 1:
                holes[outer].append(place)
    return list(holes.items())


def has_holes(rings: Sequence[Ring]) -> bool:
    """Whether some of the rings of one object are holes."""
    return any(holes for _, holes in solid_parts(rings))


def polygons_mask(rings: Sequence[Ring], height: int, width: int, fills_holes: bool = False) -> np.ndarray:
    """The pixels of an object, filled as pycocotools does; what lies outside the image is left out.

    Args:
        rings: polygons, see :func:`is_polygon`.
        height, width: of the image, in pixels.
        fills_holes: holes belong to the object.

    Returns:
        (H, W) bool, column by column in memory.
    """
    mask: np.ndarray = coco_mask.decode(polygons_runs(rings, height, width, fills_holes)).view(bool)
    return mask


def polygons_runs(rings: Sequence[Ring], height: int, width: int, fills_holes: bool = False) -> dict[str, Any]:
    """As :func:`polygons_mask`, in compressed run lengths as COCO has them."""
    parts = [] if fills_holes else [part for part in solid_parts(rings) if part[1]]
    if not parts:
        return _filled(rings, height, width)
    inner = {hole for _, holes in parts for hole in holes} | {place for place, _ in parts}
    mask = coco_mask.decode(_filled([ring for n, ring in enumerate(rings) if n not in inner], height, width))
    for place, holes in parts:
        without = coco_mask.decode(_filled([rings[hole] for hole in holes], height, width))
        mask |= coco_mask.decode(_filled([rings[place]], height, width)) & (1 - without)
    runs: dict[str, Any] = coco_mask.encode(mask)
    return runs


def _filled(rings: Sequence[Ring], height: int, width: int) -> dict[str, Any]:
    near = [part for ring in rings if len(part := _cut(list(ring), height, width)) >= 6]
    if not near:
        empty: dict[str, Any] = coco_mask.encode(np.zeros((height, width), np.uint8, order="F"))
        return empty
    runs: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects(near, height, width))
    return runs


def _rings_around(rings: Sequence[Ring]) -> list[list[int]]:
    """For each ring the places of those that it lies in."""
    points = [np.reshape(np.asarray(ring, np.float64), (-1, 2)) for ring in rings]
    bounds = np.array([[*each.min(axis=0), *each.max(axis=0)] for each in points])
    reach = _TOLERANCE * np.array([1, 1, -1, -1])
    pairs = []
    for outer, box in enumerate(bounds):
        beyond = bounds + reach - box
        near = np.flatnonzero((beyond[:, :2] >= 0).all(axis=1) & (beyond[:, 2:] <= 0).all(axis=1))
        pairs.append(near[near != outer])
    around: list[list[int]] = [[] for _ in rings]
    if not any(map(len, pairs)):
        return around
    shapes = shapely.make_valid([shapely.Polygon(each) for each in points])
    areas, lengths = shapely.area(shapes), shapely.length(shapes)
    for outer, near in enumerate(pairs):
        # Rings that run along one another are one ring that was drawn twice.
        smaller = near[(areas[outer] - areas[near] > _TOLERANCE * lengths[outer]) & (areas[near] > _TOLERANCE)]
        for place in _inside(smaller, shapes, outer):
            around[place].append(outer)
    return around


def _inside(places: np.ndarray, shapes: np.ndarray, outer: int) -> list[int]:
    """Those of some rings that lie in another one, but for what is rounded."""
    if not len(places):
        return []
    shapely.prepare(shapes[outer])
    exact = shapely.covers(shapes[outer], shapes[places])
    near = places[~exact]
    if len(near):
        wide = shapely.buffer(shapes[outer], _TOLERANCE, quad_segs=2)
        near = near[shapely.covers(wide, shapes[near])]
        shared = shapely.area(shapely.intersection(shapes[near], shapes[outer]))
        near = near[2 * shared >= shapely.area(shapes[near])]
    return [int(place) for place in (*places[exact], *near)]


def _cut(polygon: list[float], height: int, width: int) -> list[float]:
    """The part of a polygon that is near the image; the same polygon if all of it is.

    Source: Sutherland and Hodgman 1974, "Reentrant polygon clipping".
    """
    for axis, size in ((0, width), (1, height)):
        for sign, limit in ((1, -_MARGIN * size), (-1, -(_MARGIN + 1) * size)):
            values = polygon[axis::2]
            if not values or (min(values) if sign > 0 else -max(values)) >= limit:
                continue
            polygon = _cut_at(polygon, axis, sign, limit)
    return polygon


def _cut_at(polygon: list[float], axis: int, sign: int, limit: float) -> list[float]:
    """What has ``sign * coordinate >= limit``."""
    points = list(zip(polygon[::2], polygon[1::2]))
    kept: list[float] = []
    for start, end in pairwise([*points[-1:], *points]):
        before, after = sign * start[axis] - limit, sign * end[axis] - limit
        if (before < 0) != (after < 0):
            share = before / (before - after)
            kept += [start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])]
        if after >= 0:
            kept += end
    return kept


class Outline(NamedTuple):
    """A polygon without holes that shows a part of a segment.

    Args:
        segment: index of the segment.
        ring: x0, y0, x1, y1, ... in pixels; the last point isn't the first.
        order: to be drawn in rising order: what lies in a hole of another one is above it.
    """

    segment: int
    ring: list[float]
    order: int


def polygons_of(mask: np.ndarray) -> list[list[float]]:
    """Polygons along the edges of the pixels of a mask (H, W), cut so that none has holes; drawn, they are the mask."""
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
    found: list[tuple[float, int, list[float]]] = []
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


def _ring(exterior: Any, tolerance: float) -> list[float]:
    straight = exterior.simplify(0)
    fewer = shapely.Polygon(straight).simplify(tolerance).exterior if tolerance else straight
    ring: list[float] = np.asarray(fewer.coords)[:-1].ravel().tolist()
    return ring
