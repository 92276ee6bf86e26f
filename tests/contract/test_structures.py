"""Boxes, masks, padded batches of images, and instances. Expected values were recorded from Detectron2 0.6."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from detectron2.structures import BitMasks, Boxes, BoxMode, ImageList, Instances

BOXES = torch.tensor([[0.0, 1.0, 3.0, 5.0], [2.0, 2.0, 2.0, 9.0], [-1.0, 4.0, 12.0, 4.5]])


def test_box_mode_numbers_are_those_of_stored_datasets() -> None:
    assert [mode.value for mode in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)] == [0, 1]


@pytest.mark.parametrize("kind", [list, tuple])
def test_box_mode_converts_one_box_into_its_own_type(kind: type) -> None:
    box = kind([1, 2, 3, 4])

    converted = BoxMode.convert(box, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)

    assert converted == kind([1, 2, 4, 6])
    assert BoxMode.convert(converted, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS) == box


def test_box_mode_rounds_floats_of_a_list_to_float32() -> None:
    converted = BoxMode.convert([0.1, 0.2, 3.0, 4.0], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)

    assert converted == [0.10000000149011612, 0.20000000298023224, 3.0999999046325684, 4.199999809265137]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_box_mode_keeps_an_arrays_type_and_leaves_it_alone(dtype: type) -> None:
    boxes = np.array([[1, 2, 3, 4], [0, 0, 1, 1]], dtype=dtype)

    converted = BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)

    assert converted.dtype == dtype
    assert converted.tolist() == [[1, 2, 4, 6], [0, 0, 1, 1]]
    assert boxes.tolist() == [[1, 2, 3, 4], [0, 0, 1, 1]]


def test_box_mode_converts_tensors_there_and_back() -> None:
    converted = BoxMode.convert(BOXES, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)

    assert_close(converted[0], torch.tensor([0.0, 1.0, 3.0, 4.0]))
    assert_close(BoxMode.convert(converted, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS), BOXES)
    assert BoxMode.convert(BOXES, BoxMode.XYXY_ABS, BoxMode.XYXY_ABS) is BOXES


def test_box_mode_wants_four_numbers() -> None:
    with pytest.raises(AssertionError):
        BoxMode.convert([1, 2, 3], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)


def test_boxes_become_float32_with_four_columns() -> None:
    assert Boxes([[1, 2, 3, 4]]).tensor.dtype == torch.float32
    assert Boxes(np.zeros((2, 4))).tensor.dtype == torch.float32
    assert Boxes([]).tensor.shape == (0, 4)
    with pytest.raises(AssertionError):
        Boxes(torch.zeros(2, 5))


def test_boxes_know_which_are_empty() -> None:
    boxes = Boxes(BOXES)

    assert boxes.nonempty().tolist() == [True, False, True]
    assert boxes.nonempty(threshold=0.6).tolist() == [True, False, False]


def test_boxes_clip_and_scale_in_place() -> None:
    boxes = Boxes(BOXES.clone())

    boxes.clip((6, 10))
    boxes.scale(2.0, 0.5)

    assert boxes.tensor.tolist() == [[0.0, 0.5, 6.0, 2.5], [4.0, 1.0, 4.0, 3.0], [0.0, 2.0, 20.0, 2.25]]
    with pytest.raises(AssertionError, match="infinite or NaN"):
        Boxes(torch.tensor([[0.0, 0.0, float("nan"), 1.0]])).clip((5, 5))


def test_boxes_index_like_a_tensor_and_stay_boxes() -> None:
    boxes = Boxes(BOXES)

    assert boxes[1].tensor.shape == (1, 4)
    assert len(boxes[1:]) == 2
    assert_close(boxes[torch.tensor([True, False, True])].tensor, BOXES[[0, 2]])
    assert [box.shape for box in boxes] == [(4,)] * 3
    with pytest.raises(AssertionError, match="failed to return a matrix"):
        boxes[:, 0]


def example_masks() -> torch.Tensor:
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 1:3, 2:7] = True
    masks[2, 5, 0] = masks[2, 0, 7] = True
    return masks


def test_bit_masks_hold_bool_of_three_dimensions() -> None:
    masks = BitMasks(np.array([[[0, 2], [1, 0]]], dtype=np.uint8))

    assert masks.tensor.dtype == torch.bool
    assert masks.tensor.tolist() == [[[False, True], [True, False]]]
    assert tuple(masks.image_size) == (2, 2)
    with pytest.raises(AssertionError):
        BitMasks(torch.zeros(3, 3))


def test_bit_masks_index_and_know_which_are_empty() -> None:
    masks = BitMasks(example_masks())

    assert masks.nonempty().tolist() == [True, False, True]
    assert masks[1].tensor.shape == (1, 6, 8)
    assert len(masks[masks.nonempty()]) == 2
    assert [mask.shape for mask in masks] == [(6, 8)] * 3


def test_image_list_pads_right_and_bottom() -> None:
    images = [torch.ones(3, 5, 6), torch.full((3, 7, 2), 2.0)]

    batch = ImageList.from_tensors(images)

    assert batch.tensor.shape == (2, 3, 7, 6)
    assert batch.image_sizes == [(5, 6), (7, 2)]
    assert batch.tensor[0, :, 5:].eq(0).all() and batch.tensor[1, :, :, 2:].eq(0).all()
    assert torch.equal(batch.tensor[0, :, :5], images[0]) and torch.equal(batch.tensor[1, :, :, :2], images[1])
    assert len(batch) == 2


def test_image_list_of_one_image_needs_no_padding() -> None:
    batch = ImageList.from_tensors([torch.ones(3, 5, 10, dtype=torch.uint8)])

    assert batch.tensor.shape == (1, 3, 5, 10)
    assert batch.tensor.dtype == torch.uint8


def test_image_list_refuses_what_cannot_be_stacked() -> None:
    with pytest.raises(AssertionError):
        ImageList.from_tensors([])
    with pytest.raises(AssertionError):
        ImageList.from_tensors([torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)])


def example_instances() -> Instances:
    instances = Instances((6, 8), scores=torch.tensor([0.9, 0.2, 0.7]))
    instances.pred_boxes = Boxes(BOXES)
    instances.pred_masks = BitMasks(example_masks())
    instances.names = ["a", "b", "c"]
    return instances


def test_instances_give_fields_as_attributes() -> None:
    instances = example_instances()

    assert len(instances) == 3
    assert instances.image_size == (6, 8)
    assert instances.has("scores") and not instances.has("gt_boxes")
    assert instances.names == ["a", "b", "c"]
    assert list(instances.get_fields()) == ["scores", "pred_boxes", "pred_masks", "names"]
    with pytest.raises(AttributeError, match="Cannot find field 'gt_boxes'"):
        instances.gt_boxes  # noqa: B018


def test_instances_refuse_fields_of_another_length() -> None:
    instances = example_instances()

    with pytest.raises(AssertionError, match="Adding a field of length 2"):
        instances.pred_classes = torch.zeros(2)


def test_instances_index_all_fields_together() -> None:
    instances = example_instances()
    instances.get_fields().pop("names")

    confident = instances[instances.scores > 0.5]

    assert confident.scores.tolist() == pytest.approx([0.9, 0.7])
    assert_close(confident.pred_boxes.tensor, BOXES[[0, 2]])
    assert len(confident.pred_masks) == 2
    assert confident.image_size == (6, 8)


@pytest.mark.parametrize(("index", "name"), [(0, "a"), (2, "c"), (-1, "c")])
def test_instances_index_one_by_its_number(index: int, name: str) -> None:
    one = example_instances()[index]

    assert len(one) == 1
    assert one.names == [name]


def test_instances_refuse_a_number_outside() -> None:
    with pytest.raises(IndexError):
        example_instances()[3]


def test_instances_move_and_survive_pickling() -> None:
    instances = example_instances().to("cpu")

    copy = pickle.loads(pickle.dumps(instances))

    assert_close(copy.scores, instances.scores)
    assert copy.image_size == instances.image_size
    assert "num_instances=3, image_height=6, image_width=8" in str(copy)


def test_instances_without_fields_have_no_length() -> None:
    with pytest.raises(NotImplementedError):
        len(Instances((3, 3)))
