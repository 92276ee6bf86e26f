"""Shapes as people draw them, as the pixels of a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from pycocotools import mask as coco_mask

from ....errors import DatasetError
from ...image_size import MOST_PIXELS
from ...run_lengths import decompressed
from ..records import Bitmap, Box, Ellipse, Polygons, Runs, Shape

#: Polygons are cut so many picture sizes away from the picture: the time and memory to fill one grow with its reach.
_MARGIN = 2
#: Coordinates beyond this come from no labelling program, and floats near it have no fractions left.
MOST_COORDINATE = 1e7


def shape_mask(shape: Shape, height: int, width: int) -> np.ndarray:
    """The pixels that a shape covers in a picture of the size that was labelled.

    Polygons and boxes are filled as pycocotools does, ellipses where a pixel's centre is inside.

    Args:
        shape: in pixels; what lies outside the picture is left out.
        height, width: of the picture, in pixels.

    Returns:
        (H, W) bool.

    Raises:
        DatasetError: the shape contradicts itself or the size.
    """
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise DatasetError(f"a picture of {width}x{height} pixels can't be labelled.")
    if isinstance(shape, Polygons):
        return _filled(shape.polygons, height, width)
    if isinstance(shape, Runs):
        return _unrolled(shape, height, width)
    if isinstance(shape, Box):
        return _filled((box_corners(shape),), height, width)
    if isinstance(shape, Ellipse):
        return _inside_ellipse(shape, height, width)
    return _pasted(shape, height, width)


def is_polygon(polygon: Sequence[float]) -> bool:
    """Whether something is x0, y0, x1, y1, ... of three points or more, all finite and of this world."""
    if len(polygon) < 6 or len(polygon) % 2 or not math.isfinite(sum(polygon)):
        return False
    return min(polygon) > -MOST_COORDINATE and max(polygon) < MOST_COORDINATE


def box_corners(box: Box) -> tuple[float, ...]:
    """x0, y0, x1, y1, ... of the four corners of a box, turned around its centre."""
    center_x, center_y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    half_x, half_y = (box.right - box.left) / 2, (box.bottom - box.top) / 2
    cosine, sine = math.cos(math.radians(box.rotation)), math.sin(math.radians(box.rotation))
    if box.rotation % 360 == 0:
        cosine, sine = 1.0, 0.0  # exact, so that boxes on pixel edges stay there
    corners: list[float] = []
    for x, y in ((-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)):
        corners += [center_x + x * cosine - y * sine, center_y + x * sine + y * cosine]
    return tuple(corners)


def _filled(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    kept = []
    for polygon in polygons:
        if not is_polygon(polygon):
            raise DatasetError(f"a polygon of {len(polygon)} coordinates can't be drawn; it needs x, y of 3 points.")
        near = _cut(list(polygon), height, width)
        if len(near) >= 6:
            kept.append(near)
    if not kept:
        return np.zeros((height, width), bool)
    runs = coco_mask.merge(coco_mask.frPyObjects(kept, height, width))
    return coco_mask.decode(runs).view(bool)


def _cut(polygon: list[float], height: int, width: int) -> list[float]:
    """The part of a polygon that is near the picture; the same polygon if all of it is.

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


def _unrolled(runs: Runs, height: int, width: int) -> np.ndarray:
    if tuple(runs.size) != (height, width):
        raise DatasetError(f"its mask is {runs.size[1]}x{runs.size[0]} pixels, the picture {width}x{height}.")
    counts = decompressed(runs.counts.decode("latin-1")) if isinstance(runs.counts, bytes) else runs.counts
    if counts is None:
        raise DatasetError("its run lengths aren't COCO's compressed form.")
    return _spread(counts, width, height).T


def _pasted(bitmap: Bitmap, height: int, width: int) -> np.ndarray:
    rows, columns = bitmap.size
    if min(rows, columns) < 0 or rows * columns > MOST_PIXELS:
        raise DatasetError(f"a mask of {columns}x{rows} pixels can't be drawn.")
    window = _spread(bitmap.counts, rows, columns)
    mask = np.zeros((height, width), bool)
    top, left = max(bitmap.top, 0), max(bitmap.left, 0)
    bottom, right = min(bitmap.top + rows, height), min(bitmap.left + columns, width)
    if top < bottom and left < right:
        near = window[top - bitmap.top : bottom - bitmap.top, left - bitmap.left : right - bitmap.left]
        mask[top:bottom, left:right] = near
    return mask


def _spread(counts: Sequence[int], rows: int, columns: int) -> np.ndarray:
    """(rows, columns) bool from runs that are off, on, off, ... in turn, row by row."""
    if min(counts, default=0) < 0 or sum(counts) != rows * columns:
        raise DatasetError(f"its runs are {sum(counts)} pixels together; {columns}x{rows} are {rows * columns}.")
    is_on = np.arange(len(counts)) % 2 == 1
    return np.repeat(is_on, np.asarray(counts, np.int64)).reshape(rows, columns)


def _inside_ellipse(ellipse: Ellipse, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    numbers = (ellipse.x, ellipse.y, ellipse.radius_x, ellipse.radius_y, ellipse.rotation)
    if not all(map(math.isfinite, numbers)) or max(map(abs, numbers)) >= MOST_COORDINATE:
        raise DatasetError(f"an ellipse with {numbers} for its centre, half axes and rotation can't be drawn.")
    if min(ellipse.radius_x, ellipse.radius_y) <= 0:
        return mask
    cosine, sine = math.cos(math.radians(ellipse.rotation)), math.sin(math.radians(ellipse.rotation))
    reach_x = math.hypot(ellipse.radius_x * cosine, ellipse.radius_y * sine)
    reach_y = math.hypot(ellipse.radius_x * sine, ellipse.radius_y * cosine)
    left, right = (int(np.clip(ellipse.x + side * reach_x + side, 0, width)) for side in (-1, 1))
    top, bottom = (int(np.clip(ellipse.y + side * reach_y + side, 0, height)) for side in (-1, 1))
    x = np.arange(left, right)[None, :] + 0.5 - ellipse.x
    y = np.arange(top, bottom)[:, None] + 0.5 - ellipse.y
    along, across = (x * cosine + y * sine) / ellipse.radius_x, (y * cosine - x * sine) / ellipse.radius_y
    mask[top:bottom, left:right] = along**2 + across**2 <= 1
    return mask
