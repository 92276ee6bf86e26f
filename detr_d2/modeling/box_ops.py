"""Boxes of DETR: (cx, cy, w, h) in [0, 1] and corners, and their generalised IoU.

Source: Rezatofighi et al. 2019, "Generalized Intersection over Union".
"""

from __future__ import annotations

import torch
from torch import Tensor


def box_cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size to (..., 4) corners x0, y0, x1, y1, in the same unit."""
    center, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([center - size / 2, center + size / 2], dim=-1)


def box_xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) corners x0, y0, x1, y1 to (..., 4) centre and size, in the same unit."""
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(top_left + bottom_right) / 2, bottom_right - top_left], dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """(..., 4) corners to areas (...)."""
    size = boxes[..., 2:] - boxes[..., :2]
    return size[..., 0] * size[..., 1]


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalised IoU of boxes given as corners; the leading dimensions broadcast.

    Compare (N, 1, 4) with (M, 4) for all pairs, or (N, 4) with (N, 4) for the pairs only.

    Args:
        boxes1: (..., 4) corners.
        boxes2: (..., 4) corners, in the same unit.

    Returns:
        Values in [-1, 1] of the broadcast leading shape. Two empty boxes at one place have 0.
    """
    overlap = _area_between(
        torch.maximum(boxes1[..., :2], boxes2[..., :2]), torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    )
    union = box_area(boxes1) + box_area(boxes2) - overlap
    hull = _area_between(
        torch.minimum(boxes1[..., :2], boxes2[..., :2]), torch.maximum(boxes1[..., 2:], boxes2[..., 2:])
    )
    tiny = torch.finfo(boxes1.dtype).tiny  # empty boxes divide 0 by this instead of by 0
    return overlap / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def _area_between(top_left: Tensor, bottom_right: Tensor) -> Tensor:
    size = (bottom_right - top_left).clamp(min=0)
    return size[..., 0] * size[..., 1]
