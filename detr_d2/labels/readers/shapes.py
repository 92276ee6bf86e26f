"""Shapes as people draw them, as the pixels of an image; and the shapes of what stands in an image of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detr_d2.errors import DatasetError

from ..panoptic_png import find_regions
from ..polygons import decompressed, is_polygon, polygons_mask
from ..records import Box, Ellipse, Polygons, Runs, Shape
from ..values import MOST_PIXELS, are_numbers


class BadShape(ValueError):
    """A shape that can't be drawn.

    Args:
        code: a short word with hyphens.
        message: why, as the end of a sentence.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def shape_mask(shape: Shape, height: int, width: int, fills_holes: bool = False) -> np.ndarray:
    """The pixels that a shape covers in an image of the size that was labelled.

    Polygons and boxes are filled as pycocotools does, ellipses where a pixel's centre is inside; which polygons are
    holes, :mod:`detr_d2.labels.polygons` says.

    Args:
        shape: in pixels; what lies outside the image is left out.
        height, width: of the image, in pixels.
        fills_holes: holes of polygons belong to the object.

    Returns:
        (H, W) bool.

    Raises:
        DatasetError: the shape contradicts itself or the size.
    """
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise DatasetError(f"an image of {width}x{height} pixels can't be labelled.")
    if isinstance(shape, Polygons):
        return _drawn(shape.polygons, height, width, fills_holes)
    if isinstance(shape, Runs):
        return _unrolled(shape, height, width)
    if isinstance(shape, Box):
        return _drawn((box_corners(shape),), height, width, fills_holes)
    return _inside_ellipse(shape, height, width)


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


def _drawn(polygons: Sequence[Sequence[float]], height: int, width: int, fills_holes: bool) -> np.ndarray:
    for polygon in polygons:
        if not is_polygon(polygon):
            raise DatasetError(f"a polygon of {len(polygon)} coordinates can't be drawn; it needs x, y of 3 points.")
    return polygons_mask(polygons, height, width, fills_holes)


def _unrolled(runs: Runs, height: int, width: int) -> np.ndarray:
    rows, columns = runs.size
    if not runs.by_rows and (rows, columns) != (height, width):
        raise DatasetError(f"its mask is {columns}x{rows} pixels, the image {width}x{height}.")
    if min(rows, columns) < 0 or rows * columns > MOST_PIXELS:
        raise DatasetError(f"a mask of {columns}x{rows} pixels can't be drawn.")
    counts = decompressed(runs.counts.decode("latin-1")) if isinstance(runs.counts, bytes) else runs.counts
    if counts is None:
        raise DatasetError("its run lengths aren't COCO's compressed form.")
    if not runs.by_rows:
        return _spread(counts, columns, rows).T
    window = _spread(counts, rows, columns)
    mask = np.zeros((height, width), bool)
    top, left = max(runs.top, 0), max(runs.left, 0)
    bottom, right = min(runs.top + rows, height), min(runs.left + columns, width)
    if top < bottom and left < right:
        near = window[top - runs.top : bottom - runs.top, left - runs.left : right - runs.left]
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
    if not are_numbers(numbers):
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


def shapes_of(ids: np.ndarray) -> dict[int, Runs]:
    """Where each value of a map (H, W) of whole numbers is, without a pass over the map for each."""
    regions = find_regions(ids)
    found: dict[int, Runs] = {}
    for value, (left, top, right, bottom) in zip(regions.values.tolist(), regions.boxes.tolist()):
        pixels = ids[top:bottom, left:right].ravel() == value
        edges = np.flatnonzero(np.diff(pixels, prepend=False))
        counts = np.diff(edges, prepend=0, append=pixels.size).tolist()
        found[value] = Runs((bottom - top, right - left), tuple(counts), left, top, by_rows=True)
    return found
