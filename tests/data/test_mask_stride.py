"""Masks at a quarter of the size: what they keep, and what the losses make of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from detr_d2.data import DetrPanopticDatasetMapper, register_from_config
from detr_d2.data.segments import find_segments, segment_masks, shrink_masks
from detr_d2.errors import ConfigError

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

maps = arrays.arrays(
    st.sampled_from([np.uint8, np.uint16]),
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=14),
    elements=st.integers(0, 6),
)


@given(maps, st.lists(st.booleans(), min_size=6, max_size=6), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_shrunk_segments_keep_boxes_areas_and_a_pixel(numbers: np.ndarray, wanted: list[bool], stride: int) -> None:
    whole = find_segments(numbers, np.array(wanted))
    small = find_segments(numbers, np.array(wanted), stride)

    for name in ("numbers", "boxes", "areas"):
        np.testing.assert_array_equal(getattr(small, name), getattr(whole, name))
    height, width = (-(-length // stride) for length in numbers.shape)
    assert small.masks.shape == (len(whole.numbers), height, width)
    assert small.masks.any(axis=(1, 2)).all()
    for mask, small_mask in zip(whole.masks, small.masks):
        rows, columns = np.nonzero(mask)
        touched = np.zeros_like(small_mask)
        touched[rows // stride, columns // stride] = True
        assert not (small_mask & ~touched).any()
        assert small_mask[touched].any()
        if stride == 1:
            np.testing.assert_array_equal(small_mask, mask)


@given(maps, st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_masks_shrink_alike_one_by_one(numbers: np.ndarray, stride: int) -> None:
    whole, small = (find_segments(numbers, np.ones(6, bool), s) for s in (1, stride))

    if len(whole.masks):
        np.testing.assert_array_equal(shrink_masks(whole.masks, stride), small.masks)


def test_cell_is_what_its_middle_pixel_is() -> None:
    numbers = np.arange(1, 65, dtype=np.uint8).reshape(8, 8)

    masks = segment_masks(numbers, np.array([19, 55]), np.array([[2, 2, 3, 3], [6, 6, 7, 7]]), 4)

    assert np.argwhere(masks).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_no_masks_are_made_where_none_are_wanted() -> None:
    segments = find_segments(np.ones((4, 4), np.uint8), np.ones(1, bool), mask_stride=None)

    assert segments.boxes.tolist() == [[0, 0, 4, 4]] and segments.masks.shape == (1, 0, 0)


@pytest.fixture
def config(tiny_config: Callable[..., CfgNode]) -> CfgNode:
    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN", (122,))
    register_from_config(cfg)
    return cfg


def test_masks_have_the_size_of_the_models_and_losses_stay_close(config: CfgNode) -> None:
    model = build_model(config).train()
    records = DatasetCatalog.get("yard_train")
    losses = {}
    for stride in (1, 4):
        config.INPUT.MASK_STRIDE = stride
        mapper = DetrPanopticDatasetMapper(config, is_train=True)
        batch = [mapper(record) for record in records[:2]]
        height, width = batch[0]["image"].shape[1:]
        assert batch[0]["instances"].gt_masks.tensor.shape[1:] == (-(-height // stride), -(-width // stride))
        with torch.no_grad():
            losses[stride] = {name: float(value) for name, value in model(batch).items()}

    for name, value in losses[1].items():
        tolerance = 0.15 if name in ("loss_mask", "loss_dice") else 1e-6
        assert losses[4][name] == pytest.approx(value, rel=tolerance), name


def test_masks_of_polygons_shrink_too(config: CfgNode) -> None:
    config.INPUT.MASK_STRIDE = 4
    record = DatasetCatalog.get("yard_train")[0]
    square = [[10.0, 20.0, 50.0, 20.0, 50.0, 60.0, 10.0, 60.0]]
    boxes = {key: record[key] for key in ("file_name", "image_id", "height", "width")}
    annotation = {"bbox": [10.0, 20.0, 40.0, 40.0], "bbox_mode": 1, "category_id": 0, "segmentation": square}
    config.INPUT.MIN_SIZE_TRAIN = (0,)

    gt = DetrPanopticDatasetMapper(config, is_train=True)({**boxes, "annotations": [annotation]})["instances"]

    assert gt.gt_masks.tensor.shape == (1, 32, 40) and int(gt.gt_masks.tensor.sum()) == 100
    assert gt.gt_boxes.tensor.tolist() == [[10, 20, 50, 60]]


@pytest.mark.parametrize("stride", [0, -4])
def test_senseless_strides_are_refused(config: CfgNode, stride: int) -> None:
    config.INPUT.MASK_STRIDE = stride

    with pytest.raises(ConfigError, match="MASK_STRIDE"):
        DetrPanopticDatasetMapper(config, is_train=True)
