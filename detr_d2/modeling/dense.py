"""Dense predictions: in training, every place of the encoder's memory says which segment it lies in, and its box.

The decoder's queries look at a few places each, and tell a young backbone little of what it should show them. Here all
places learn at once, without a matching, and boxes are measured from the place itself. At inference nothing of it is
there.

Source: Tian et al. 2019, "FCOS: Fully Convolutional One-Stage Object Detection", section 3; as a helper of DETR's
encoder: Zong et al. 2023, "DETRs with Collaborative Hybrid Assignments Training".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .box_ops import box_cxcywh_to_xyxy, generalized_box_iou
from .criterion import Sum, sum_of
from .detr import MLP
from .matcher import Target, num_targets


class DensePredictions(nn.Module):
    """Classes and boxes at every place, and how far they are from the segments there.

    Args:
        d_model: channels D of the memory.
        num_classes: K; there is no no-object here, as places outside all boxes aren't asked.
    """

    def __init__(self, d_model: int, num_classes: int) -> None:
        super().__init__()
        self.class_embed = nn.Linear(d_model, num_classes)
        self.bbox_embed = MLP(d_model, d_model, output_dim=4, num_layers=2)
        nn.init.constant_(self.bbox_embed.layers[-1].bias, -1.5)  # type: ignore[arg-type]  # a fifth of the image

    def forward(self, memory: Tensor, padding_mask: Tensor, targets: list[Target]) -> dict[str, Sum]:
        """
        Args:
            memory: (B, D, H, W) of the encoder.
            padding_mask: (B, H, W) bool, True on padding.
            targets: one for each image.

        Returns:
            loss_ce_dense, loss_bbox_dense and loss_giou_dense. The places of a segment share its weight, so that each
            target that has a place counts once.
        """
        places = _places(padding_mask)
        weights, classes, gt_boxes = (torch.cat(parts) for parts in zip(*map(_assigned, places, targets), strict=True))
        tokens = memory.flatten(2).transpose(1, 2).flatten(0, 1)
        chosen = weights > 0
        tokens, places, weights = tokens[chosen], places.flatten(0, 1)[chosen], weights[chosen]
        gt_boxes, count = gt_boxes[chosen].float(), num_targets(targets)
        reach = F.softplus(self.bbox_embed(tokens).float())  # to the left, up, to the right, down
        boxes = torch.cat([places - reach[:, :2], places + reach[:, 2:]], dim=1)
        corners = box_cxcywh_to_xyxy(gt_boxes)
        predicted = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)
        cross_entropy = F.cross_entropy(self.class_embed(tokens).float(), classes[chosen], reduction="none")
        losses = {
            "loss_ce_dense": cross_entropy,
            "loss_bbox_dense": (predicted - gt_boxes).abs().sum(1),
            "loss_giou_dense": 1 - generalized_box_iou(boxes, corners),
        }
        return {name: sum_of((loss * weights).sum(), count) for name, loss in losses.items()}


def _places(padding_mask: Tensor) -> Tensor:
    """The centres (B, H * W, 2) of the places, x and y in [0, 1] of each unpadded image; above 1 on padding."""
    inside = (~padding_mask).float()
    x, y = ((inside.cumsum(dim) - 0.5) / inside.sum(dim, keepdim=True).clamp(min=1) for dim in (2, 1))
    centres = torch.stack([x, y], dim=-1).masked_fill(padding_mask[..., None], 2.0)
    return centres.flatten(1, 2)


def _assigned(places: Tensor, target: Target) -> tuple[Tensor, Tensor, Tensor]:
    """For each of the places (N, 2) of an image the smallest box that it lies in.

    Returns:
        Weights (N,), 1 over the number of places of the same box and 0 outside all; classes (N,); boxes (N, 4).
    """
    labels, boxes = target["labels"], target["boxes"]
    if not len(labels):
        nothing = places.new_zeros(len(places))
        return nothing, nothing.long(), places.new_zeros(len(places), 4)
    corners = box_cxcywh_to_xyxy(boxes.float())
    is_in = ((places[:, None] >= corners[:, :2]) & (places[:, None] <= corners[:, 2:])).all(-1)
    area = (boxes[:, 2] * boxes[:, 3]).float().expand(len(places), -1)
    smallest, which = area.masked_fill(~is_in, torch.inf).min(1)
    is_assigned = smallest.isfinite()
    shares = torch.bincount(which[is_assigned], minlength=len(labels)).clamp(min=1)
    return is_assigned / shares[which], labels[which], boxes[which]
