"""Masks as polygons: drawn again, they are the masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from detr_d2.labels.polygons import Outline, outlines_of, polygons_of
from detr_d2.yard.scene import make_scene


def drawn(rings: list[list[float]], shape: tuple[int, ...]) -> np.ndarray:
    if not rings:
        return np.zeros(shape, bool)
    return np.asarray(coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *shape))).astype(bool))


def painted(outlines: list[Outline], shape: tuple[int, ...]) -> np.ndarray:
    numbers = np.zeros(shape, int)
    for outline in sorted(outlines, key=lambda one: one.order):
        numbers[drawn([outline.ring], shape)] = outline.segment + 1
    return numbers


def holes_of_void(numbers: np.ndarray) -> np.ndarray:
    """Void from which no way leads to the border, as those who draw around it fill it."""
    from scipy import ndimage

    regions, _ = ndimage.label(np.pad(numbers == 0, 1, constant_values=True))
    return np.asarray((numbers == 0) & (regions[1:-1, 1:-1] != regions[0, 0]))


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
@settings(max_examples=200, deadline=None)
def test_polygons_drawn_by_pycocotools_are_the_mask(mask: np.ndarray) -> None:
    assert (drawn(polygons_of(mask), mask.shape) == mask).all()


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)))
@settings(max_examples=200, deadline=None)
def test_outlines_drawn_in_their_order_are_the_map_but_for_void_in_holes(numbers: np.ndarray) -> None:
    outlines = outlines_of([numbers == segment for segment in (1, 2, 3)])

    wrong = painted(outlines, numbers.shape) != numbers
    assert not wrong[numbers > 0].any()
    assert not wrong[~holes_of_void(numbers)].any()


def test_outlines_of_a_scene_with_few_points_are_nearly_the_map() -> None:
    scene = make_scene(3, width=320, height=256)
    masks = [scene.segments == number for number in range(len(scene.names))]

    exact, coarse = outlines_of(masks), outlines_of(masks, tolerance=1)

    assert sum(len(one.ring) for one in coarse) < sum(len(one.ring) for one in exact) / 3
    assert (painted(exact, scene.segments.shape) == scene.segments + 1).all()
    assert (painted(coarse, scene.segments.shape) == scene.segments + 1).mean() > 0.98


@pytest.mark.parametrize("tolerance", [0, 1, 4])
def test_outlines_of_a_single_pixel_stay(tolerance: float) -> None:
    mask = np.zeros((5, 5), bool)
    mask[2, 3] = True

    (outline,) = outlines_of([mask], tolerance)

    assert drawn([outline.ring], mask.shape)[2, 3]
