"""DETR's set losses: matched queries answer for their segment, all others for no-object.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", sections 3.1, 4.2 and appendix A.2;
focal loss: Lin et al. 2017, "Focal Loss for Dense Object Detection"; dice loss: Milletari et al. 2016, "V-Net".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .box_ops import box_cxcywh_to_xyxy, generalized_box_iou
from .matcher import HungarianMatcher, Matching, Target

Losses = dict[str, Tensor]

PredictMasks = Callable[[Tensor, Tensor], Tensor]
"""Batch index (K,) and query index (K,) to mask logits (K, H/4, W/4)."""

MASKS_AT_ONCE = 16
"""How many masks are compared at a time, at the picture's size, where no gradients are wanted."""


class SetCriterion(nn.Module):
    """Matches predictions with targets, and says how far apart they are.

    The losses returned are unweighted; ``weights`` says what each counts.

    Args:
        num_classes: K, without no-object.
        matcher: pairs queries with targets.
        no_object_weight: weight of no-object in the cross entropy.
        focal_alpha: weight of mask pixels against the background in the focal loss; negative: no weighting.
        focal_gamma: how strongly the focal loss turns away from easy pixels.
    """

    empty_weight: Tensor

    def __init__(
        self,
        num_classes: int,
        matcher: HungarianMatcher,
        no_object_weight: float = 0.1,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.matcher = matcher
        self.focal_alpha, self.focal_gamma = focal_alpha, focal_gamma
        empty_weight = torch.ones(num_classes + 1)
        empty_weight[-1] = no_object_weight
        self.register_buffer("empty_weight", empty_weight, persistent=False)

    def forward(
        self,
        outputs: dict[str, Any],
        targets: list[Target],
        num_boxes: float,
        predict_masks: PredictMasks | None = None,
    ) -> tuple[Losses, Losses]:
        """
        Args:
            outputs: what ``Detr.forward`` returned.
            targets: one for each picture.
            num_boxes: number of targets a process has on average, at least 1: what box and mask losses are divided by.
            predict_masks: gives the masks of the matched queries; None: no mask losses.

        Returns:
            The losses, and figures that are logged only. Losses of an earlier decoder layer i have the suffix ``_i``.
        """
        indices = self.matcher(outputs["pred_logits"], outputs["pred_boxes"], targets)
        losses = self.loss_labels(outputs, targets, indices) | self.loss_boxes(outputs, targets, indices, num_boxes)
        if predict_masks is not None:
            losses |= self.loss_masks(predict_masks, targets, indices, num_boxes)
        for i, earlier in enumerate(outputs["aux_outputs"]):
            matched = self.matcher(earlier["pred_logits"], earlier["pred_boxes"], targets)
            more = self.loss_labels(earlier, targets, matched) | self.loss_boxes(earlier, targets, matched, num_boxes)
            losses |= {f"{name}_{i}": value for name, value in more.items()}
        return losses, self.figures(outputs, targets, indices)

    def loss_labels(self, outputs: dict[str, Any], targets: list[Target], indices: Matching) -> Losses:
        """Cross entropy over all queries; those without a target should say no-object."""
        logits = outputs["pred_logits"].float()
        classes = torch.full(logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device)
        classes[query_positions(indices, logits.device)] = _matched(targets, "labels", indices)
        return {"loss_ce": F.cross_entropy(logits.transpose(1, 2), classes, self.empty_weight)}

    def loss_boxes(self, outputs: dict[str, Any], targets: list[Target], indices: Matching, num_boxes: float) -> Losses:
        """L1 distance and generalised IoU of the matched boxes."""
        boxes = outputs["pred_boxes"][query_positions(indices, outputs["pred_boxes"].device)].float()
        wanted = _matched(targets, "boxes", indices).float()
        giou = generalized_box_iou(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(wanted))
        return {
            "loss_bbox": (boxes - wanted).abs().sum() / num_boxes,
            "loss_giou": (1 - giou).sum() / num_boxes,
        }

    def loss_masks(
        self, predict_masks: PredictMasks, targets: list[Target], indices: Matching, num_boxes: float
    ) -> Losses:
        """Focal and dice loss of the matched queries' masks, at the size of the padded pictures."""
        wanted = _padded_masks(targets, indices)
        logits = predict_masks(*query_positions(indices, wanted.device)).float()
        # Without gradients nothing has to be kept, so that some masks at a time need far less memory.
        at_once = max(1, len(wanted)) if torch.is_grad_enabled() else MASKS_AT_ONCE
        parts = [
            self._compare_masks(some, truth)
            for some, truth in zip(logits.split(at_once), wanted.split(at_once), strict=True)
        ]
        focal, dice = (sum(sums[1:], sums[0]) / num_boxes for sums in zip(*parts, strict=True))
        return {"loss_mask": focal, "loss_dice": dice}

    def _compare_masks(self, logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of focal and dice loss: (N, H/4, W/4) logits against (N, H, W) truth."""
        logits = F.interpolate(logits[:, None], size=wanted.shape[-2:], mode="bilinear", align_corners=False)
        logits, wanted = logits[:, 0].flatten(1), wanted.flatten(1).to(logits.dtype)
        focal = sigmoid_focal_loss(logits, wanted, self.focal_alpha, self.focal_gamma)
        return focal.sum(), dice_loss(logits, wanted).sum()

    @torch.no_grad()
    def figures(self, outputs: dict[str, Any], targets: list[Target], indices: Matching) -> Losses:
        """class_error: percent of matched queries with a wrong class; cardinality_error: mean miscount of segments."""
        logits = outputs["pred_logits"]
        labels = _matched(targets, "labels", indices)
        wrong = logits[query_positions(indices, logits.device)].argmax(-1) != labels
        found = (logits.argmax(-1) != self.num_classes).sum(1)
        wanted = torch.tensor([len(target["labels"]) for target in targets], device=logits.device)
        return {
            "class_error": 100 * wrong.float().sum() / max(1, len(labels)),
            "cardinality_error": (found - wanted).abs().float().mean(),
        }


def loss_kind(name: str) -> str:
    """The name of a loss without the number of its decoder layer: loss_ce_3 is a loss_ce."""
    return "_".join(name.split("_")[:2])


def weighted_losses(losses: Losses, weights: Mapping[str, float]) -> Losses:
    """Each loss times its kind's weight; kinds without a weight are left out."""
    return {name: value * weights[loss_kind(name)] for name, value in losses.items() if loss_kind(name) in weights}


def sigmoid_focal_loss(logits: Tensor, wanted: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of each mask: (N, P) logits and 0/1 truth to the mean over its pixels (N,)."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    probability = logits.sigmoid()
    miss = probability + wanted - 2 * probability * wanted  # 1 - probability of the true answer, as wanted is 0 or 1
    loss = cross_entropy * miss**gamma
    if alpha >= 0:
        loss = loss * (alpha * wanted + (1 - alpha) * (1 - wanted))
    return loss.mean(1)


def dice_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """1 - dice of each mask, with 1 added above and below: (N, P) logits and 0/1 truth to (N,)."""
    probability = logits.sigmoid()
    overlap = 2 * (probability * wanted).sum(1)
    return 1 - (overlap + 1) / (probability.sum(1) + wanted.sum(1) + 1)


def query_positions(indices: Matching, device: torch.device) -> tuple[Tensor, Tensor]:
    """A matching to the batch index and the query index of every matched query, both (M,), on ``device``."""
    batch_index = torch.cat([torch.full_like(queries, i) for i, (queries, _) in enumerate(indices)])
    query_index = torch.cat([queries for queries, _ in indices])
    return batch_index.to(device), query_index.to(device)


def _matched(targets: list[Target], key: str, indices: Matching) -> Tensor:
    """The targets' entries in the order of the matched queries, all pictures one after the other."""
    pairs = zip(targets, indices, strict=True)
    return torch.cat([target[key][order.to(target[key].device)] for target, (_, order) in pairs])


def _padded_masks(targets: list[Target], indices: Matching) -> Tensor:
    """The matched targets' masks (M, H, W) bool, padded with False to the largest picture of the batch."""
    height = max(target["masks"].shape[-2] for target in targets)
    width = max(target["masks"].shape[-1] for target in targets)
    device = targets[0]["masks"].device
    padded = torch.zeros(sum(len(order) for _, order in indices), height, width, dtype=torch.bool, device=device)
    start = 0
    for target, (_, order) in zip(targets, indices, strict=True):
        masks = target["masks"][order.to(device)]
        padded[start : start + len(masks), : masks.shape[1], : masks.shape[2]] = masks
        start += len(masks)
    return padded
