"""Shapes as pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from detr_d2.errors import DatasetError
from detr_d2.labels.readers import shape_mask
from detr_d2.labels.records import Box, Ellipse, Polygons, Runs

HEIGHT, WIDTH = 30, 40


def test_box_on_pixel_edges_is_those_pixels():
    mask = shape_mask(Box(3, 4, 10, 9), HEIGHT, WIDTH)

    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[4:9, 3:10] = True
    assert np.array_equal(mask, expected)


def test_box_turned_by_a_right_angle_is_the_box_lying_down():
    mask = shape_mask(Box(10, 8, 22, 14, rotation=90), HEIGHT, WIDTH)

    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[5:17, 13:19] = True
    assert np.array_equal(mask, expected)


def test_box_turns_clockwise():
    mask = shape_mask(Box(5, 14, 35, 16, rotation=30), HEIGHT, WIDTH)

    rows, columns = np.nonzero(mask)
    assert rows[columns > 30].mean() > 20 and rows[columns < 10].mean() < 10  # the right end goes down


def test_ellipse_is_as_large_as_its_axes_say():
    mask = shape_mask(Ellipse(20, 15, 12.5, 8, rotation=25), HEIGHT, WIDTH)

    assert abs(mask.sum() - math.pi * 12.5 * 8) < 6


def test_ellipse_turns_clockwise():
    mask = shape_mask(Ellipse(20, 15, 15, 3, rotation=30), HEIGHT, WIDTH)

    rows, columns = np.nonzero(mask)
    assert rows[columns > 30].mean() > 17 and rows[columns < 10].mean() < 13


def test_polygons_are_filled_as_pycocotools_fills_them():
    polygons = ((2.5, 3.1, 20.2, 5.0, 12.0, 22.9), (25.0, 1.0, 39.0, 1.0, 30.0, 29.0))
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(list(map(list, polygons)), HEIGHT, WIDTH)))

    mask = shape_mask(Polygons(polygons), HEIGHT, WIDTH)

    assert np.array_equal(mask, expected.astype(bool))


def test_polygon_far_outside_is_drawn_where_the_image_is():
    far = 9e6

    mask = shape_mask(Polygons(((-far, -far, far, -far, far, 10.0, -far, 10.0),)), HEIGHT, WIDTH)

    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:10] = True
    assert np.array_equal(mask, expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-400, 400), st.floats(-400, 400)), min_size=3, max_size=8))
def test_polygon_beyond_the_edges_loses_nothing_inside(points):
    polygon = tuple(float(round(value)) for point in points for value in point)
    moved = [value + (12 * WIDTH, 16 * HEIGHT)[place % 2] for place, value in enumerate(polygon)]
    drawn = coco_mask.decode(coco_mask.frPyObjects([moved], 32 * HEIGHT, 24 * WIDTH))[:, :, 0].astype(bool)
    expected = drawn[16 * HEIGHT : 17 * HEIGHT, 12 * WIDTH : 13 * WIDTH]

    mask = shape_mask(Polygons((polygon,)), HEIGHT, WIDTH)

    assert (mask != expected).sum() <= 2 * len(points) * max(HEIGHT, WIDTH) // 20  # rounding along a cut edge


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12))
def test_runs_and_bitmaps_give_back_the_mask_they_were_made_of(seed, height, width):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    compressed = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    by_row = tuple(_counts(mask.ravel()))
    by_column = tuple(_counts(mask.T.ravel()))

    assert np.array_equal(shape_mask(Runs((height, width), compressed), height, width), mask)
    assert np.array_equal(shape_mask(Runs((height, width), by_column), height, width), mask)
    assert np.array_equal(shape_mask(Runs((height, width), by_row, by_rows=True), height, width), mask)


def _counts(pixels):
    edges = np.flatnonzero(np.diff(pixels, prepend=False))
    return np.diff(edges, prepend=0, append=pixels.size).tolist()


def test_bitmap_at_the_edge_is_cut():
    mask = shape_mask(Runs((3, 4), (0, 12), WIDTH - 2, -1, by_rows=True), HEIGHT, WIDTH)

    assert mask.sum() == 4 and mask[:2, -2:].all()


@pytest.mark.parametrize(
    "shape",
    [
        Runs((HEIGHT, WIDTH + 1), (HEIGHT * (WIDTH + 1),)),
        Runs((HEIGHT, WIDTH), (5,)),
        Runs((HEIGHT, WIDTH), (-5, HEIGHT * WIDTH + 5)),
        Runs((HEIGHT, WIDTH), b"\xff\xfe"),
        Runs((HEIGHT, WIDTH), b"PPPP"),
        Runs((10**9, 10**9), (10**18,), by_rows=True),
        Runs((2, 2), (1, 1), by_rows=True),
        Polygons(((1.0, 2.0, 3.0, 4.0),)),
        Polygons(((1.0, 2.0, 3.0, 4.0, math.nan, 5.0),)),
        Polygons(((1.0, 2.0, 3.0, 4.0, 1e300, 5.0),)),
        Ellipse(1, 1, math.inf, 2),
    ],
)
def test_shape_that_contradicts_itself_is_refused(shape):
    with pytest.raises(DatasetError):
        shape_mask(shape, HEIGHT, WIDTH)


@pytest.mark.parametrize("size", [(0, 5), (10**6, 10**6)])
def test_image_of_no_sensible_size_is_refused(size):
    with pytest.raises(DatasetError, match="can't be labelled"):
        shape_mask(Box(0, 0, 1, 1), *size)
