"""Boxes: conversions, and generalised IoU against torchvision's."""

import torch
from torchvision.ops import generalized_box_iou as torchvision_giou

from detr_d2.modeling.box_ops import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh, generalized_box_iou


def _random_corners(count: int, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    corner, size = torch.rand(count, 2), torch.rand(count, 2) + 0.01
    return torch.cat([corner, corner + size], dim=1)


def test_box_conversion_is_its_own_inverse():
    boxes = _random_corners(20, seed=0)

    torch.testing.assert_close(box_cxcywh_to_xyxy(box_xyxy_to_cxcywh(boxes)), boxes)


def test_giou_of_all_pairs_equals_torchvision():
    boxes1, boxes2 = _random_corners(7, seed=1), _random_corners(5, seed=2)

    torch.testing.assert_close(generalized_box_iou(boxes1[:, None], boxes2), torchvision_giou(boxes1, boxes2))


def test_giou_of_pairs_is_the_diagonal():
    boxes1, boxes2 = _random_corners(6, seed=3), _random_corners(6, seed=4)

    torch.testing.assert_close(generalized_box_iou(boxes1, boxes2), torchvision_giou(boxes1, boxes2).diagonal())


def test_giou_of_empty_boxes_is_finite_with_finite_gradients():
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5]], requires_grad=True)

    value = generalized_box_iou(boxes, torch.tensor([[0.5, 0.5, 0.5, 0.5]]))
    value.sum().backward()

    assert value.isfinite().all() and boxes.grad.isfinite().all()
