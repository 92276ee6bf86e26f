"""DETR's set losses: matched queries answer for their segment, all others for no-object.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", sections 3.1, 4.2 and appendix A.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .box_ops import box_cxcywh_to_xyxy, generalized_box_iou
from .mask_losses import (
    at_points,
    dice_loss,
    mask_id_loss,
    masks_at_points,
    sigmoid_focal_loss,
    uncertain_points,
    undecided_points,
)
from .matcher import HungarianMatcher, Matching, Target, num_targets, query_positions

MASKS_AT_ONCE = 16
"""How many masks are compared at a time, at the image's size, where no gradients are wanted."""

PER_TARGET = ("loss_bbox", "loss_giou", "loss_mask", "loss_dice", "loss_maskid")
"""Kinds of losses whose count is the number of targets."""

MASK_LOSSES = ("loss_mask", "loss_dice", "loss_maskid")
"""Kinds of losses that the mask head alone is trained by."""

METRICS = {"class_error": 1.0, "cardinality_error": 1.0}
"""What is no loss, with weights for :func:`weighted` that leave it as it is."""


@dataclass(frozen=True)
class Sum:
    """A loss or metric summed up: sums of several batches add up to that of one batch that holds them all.

    Args:
        mean: () float32, the sum divided by ``count``; 0 where that is 0.
        count: how many were summed up: targets for box and mask losses, matched queries for class_error, images for
            cardinality_error, and for the cross entropy the weights of all queries.
    """

    mean: Tensor
    count: float

    @property
    def total(self) -> Tensor:
        """The sum itself."""
        return self.mean * self.count

    def __add__(self, other: Sum) -> Sum:
        return sum_of(self.total + other.total, self.count + other.count)

    def __mul__(self, weight: float) -> Sum:
        """Of what is summed up, times a weight."""
        return Sum(self.mean * weight, self.count)


def sum_of(total: Tensor, count: float) -> Sum:
    """A total and how many it is of."""
    return Sum(total / (count or 1), count)


_Value = TypeVar("_Value", Tensor, Sum)


class SetCriterion(nn.Module):
    """Matches predictions with targets, and says how far apart they are; no loss is weighted against another.

    Args:
        num_classes: K, without no-object.
        matcher: pairs queries with targets.
        no_object_weight: weight of no-object in the cross entropy.
        focal_alpha: weight of mask pixels against the background in the focal loss; negative: no weighting.
        focal_gamma: how strongly the focal loss turns away from easy pixels.
        mask_id: whether masks are also compared with one another, see :func:`mask_id_loss`.
        mask_points: in training, compare masks at so many points of each, mostly where they are uncertain; 0: at all
            pixels, as ever in evaluation mode.
    """

    empty_weight: Tensor

    def __init__(
        self,
        num_classes: int,
        matcher: HungarianMatcher,
        no_object_weight: float = 0.1,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        mask_id: bool = False,
        mask_points: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.matcher = matcher
        self.no_object_weight = no_object_weight
        self.focal_alpha, self.focal_gamma = focal_alpha, focal_gamma
        self.mask_id, self.mask_points = mask_id, mask_points
        empty_weight = torch.ones(num_classes + 1)
        empty_weight[-1] = no_object_weight
        self.register_buffer("empty_weight", empty_weight, persistent=False)

    def match(self, outputs: dict[str, Any], targets: list[Target]) -> Matching:
        """Which query answers for which target; see :class:`HungarianMatcher`."""
        matching: Matching = self.matcher(outputs["pred_logits"], outputs["pred_boxes"], targets)
        return matching

    def forward(
        self,
        outputs: dict[str, Any],
        targets: list[Target],
        indices: Matching,
        mask_logits: Tensor | None = None,
        padding: tuple[float, float] = (1.0, 1.0),
    ) -> dict[str, Sum]:
        """
        Args:
            outputs: what ``Detr.forward`` returned.
            targets: one for each image.
            indices: of :meth:`match` for these two.
            mask_logits: (M, H/4, W/4) of the matched queries, image after image; None: no mask losses.
            padding: how many times higher and wider than the largest image of these the padded tensor is that the mask
                logits are of; masks are compared with the padding.

        Returns:
            Losses (``loss_ce``, ``loss_bbox``, ``loss_giou``, ``loss_mask``, ``loss_dice`` and, if wanted,
            ``loss_maskid``; those of an earlier decoder layer i have the suffix ``_i``) and the metrics of
            :meth:`metrics`.
        """
        sums = self.loss_labels(outputs, targets, indices) | self.loss_boxes(outputs, targets, indices)
        if mask_logits is not None:
            sums |= self.loss_masks(mask_logits, targets, indices, padding)
        for i, earlier in enumerate(outputs["aux_outputs"]):
            matched = self.match(earlier, targets)
            more = self.loss_labels(earlier, targets, matched) | self.loss_boxes(earlier, targets, matched)
            sums |= {f"{name}_{i}": value for name, value in more.items()}
        return sums | self.metrics(outputs, targets, indices)

    def known(self, outputs: dict[str, Any], targets: list[Target], indices: Matching) -> dict[str, Sum]:
        """Class and box losses where it is known which query answers for which target, in every decoder layer.

        Their names are those of :meth:`forward` with ``_dn``: ``loss_ce_dn``, ``loss_ce_dn_0``.
        """
        sums: dict[str, Sum] = {}
        for suffix, layer in [("", outputs), *((f"_{i}", one) for i, one in enumerate(outputs["aux_outputs"]))]:
            more = self.loss_labels(layer, targets, indices) | self.loss_boxes(layer, targets, indices)
            sums |= {f"{name}_dn{suffix}": value for name, value in more.items()}
        return sums

    def loss_labels(self, outputs: dict[str, Any], targets: list[Target], indices: Matching) -> dict[str, Sum]:
        """Cross entropy over all queries; those without a target should say no-object."""
        logits = outputs["pred_logits"].float()
        classes = torch.full(logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device)
        classes[query_positions(indices, logits.device)] = _matched(targets, "labels", indices)
        num_matched = _num_matched(indices)
        weights = num_matched + self.no_object_weight * (classes.numel() - num_matched)
        return {"loss_ce": Sum(F.cross_entropy(logits.transpose(1, 2), classes, self.empty_weight), weights)}

    def loss_boxes(self, outputs: dict[str, Any], targets: list[Target], indices: Matching) -> dict[str, Sum]:
        """L1 distance and generalised IoU of the matched boxes."""
        boxes = outputs["pred_boxes"][query_positions(indices, outputs["pred_boxes"].device)].float()
        gt_boxes = _matched(targets, "boxes", indices).float()
        giou = generalized_box_iou(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(gt_boxes))
        count = num_targets(targets)
        return {
            "loss_bbox": sum_of((boxes - gt_boxes).abs().sum(), count),
            "loss_giou": sum_of((1 - giou).sum(), count),
        }

    def loss_masks(
        self,
        mask_logits: Tensor,
        targets: list[Target],
        indices: Matching,
        padding: tuple[float, float] = (1.0, 1.0),
    ) -> dict[str, Sum]:
        """Losses of the matched queries' masks: at chosen points, or at all pixels of the padded images."""
        compare = self._compare_at_points if self.training and self.mask_points else self._compare_at_pixels
        focal, dice, mask_id = compare(mask_logits.float(), targets, indices, padding)
        count = num_targets(targets)
        losses = {"loss_mask": sum_of(focal, count), "loss_dice": sum_of(dice, count)}
        return losses | ({"loss_maskid": sum_of(mask_id, count)} if self.mask_id else {})

    def _compare_at_points(
        self, mask_logits: Tensor, targets: list[Target], indices: Matching, padding: tuple[float, float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of focal, dice and, if wanted, mask-id loss, whose points all masks of an image share."""
        height, width = _padded_size(targets, padding)
        nothing = mask_logits[:0].sum()  # 0, and with gradients, whatever the batch holds
        focal, dice, mask_id = nothing, nothing, nothing
        images = zip(mask_logits.split([len(queries) for queries, _ in indices]), targets, indices, strict=True)
        for logits, target, (_, order) in images:
            if not len(order):
                continue
            points = uncertain_points(logits, self.mask_points)
            some, wanted = at_points(logits, points), masks_at_points(target["masks"], order, points, (height, width))
            focal = focal + sigmoid_focal_loss(some, wanted.float(), self.focal_alpha, self.focal_gamma).sum()
            dice = dice + dice_loss(some, wanted.float()).sum()
            if self.mask_id:
                points = undecided_points(logits, self.mask_points)
                wanted = masks_at_points(target["masks"], order, points, (height, width))
                mask_id = mask_id + len(order) * mask_id_loss(at_points(logits, points), wanted)
        return focal, dice, mask_id

    def _compare_at_pixels(
        self, mask_logits: Tensor, targets: list[Target], indices: Matching, padding: tuple[float, float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of focal, dice and, if wanted, mask-id loss, over whole masks."""
        gt_masks = _padded_masks(targets, indices, padding)
        # Without gradients nothing has to be kept, so that some masks at a time need far less memory.
        at_once = max(1, len(gt_masks)) if torch.is_grad_enabled() else MASKS_AT_ONCE
        # Masks of an image stay together where they are compared with one another.
        together = [len(queries) for queries, _ in indices] if self.mask_id else at_once
        pairs = zip(mask_logits.split(together), gt_masks.split(together), strict=True)
        parts = [self._compare_masks(logits, masks, at_once) for logits, masks in pairs]
        focal, dice, mask_id = (sum(totals[1:], totals[0]) for totals in zip(*parts, strict=True))
        return focal, dice, mask_id

    def _compare_masks(self, logits: Tensor, gt_masks: Tensor, at_once: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of focal, dice and, if wanted, mask-id loss: (N, H/4, W/4) logits against (N, H, W) masks."""
        logits = F.interpolate(logits[:, None], size=gt_masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        focal, dice = list[Tensor](), list[Tensor]()
        for some, masks in zip(logits.flatten(1).split(at_once), gt_masks.flatten(1).split(at_once), strict=True):
            wanted = masks.to(logits.dtype)
            focal.append(sigmoid_focal_loss(some, wanted, self.focal_alpha, self.focal_gamma).sum())
            dice.append(dice_loss(some, wanted).sum())
        # An image counts as often as it has masks, so that the mean is over masks as that of the other two.
        is_compared = self.mask_id and len(gt_masks) > 0
        mask_id = len(gt_masks) * mask_id_loss(logits, gt_masks) if is_compared else logits.new_zeros(())
        return sum(focal[1:], focal[0]), sum(dice[1:], dice[0]), mask_id

    @torch.no_grad()
    def metrics(self, outputs: dict[str, Any], targets: list[Target], indices: Matching) -> dict[str, Sum]:
        """class_error: percent of matched queries with a wrong class; cardinality_error: mean miscount of segments."""
        logits = outputs["pred_logits"]
        labels = _matched(targets, "labels", indices)
        wrong = logits[query_positions(indices, logits.device)].argmax(-1) != labels
        found = (logits.argmax(-1) != self.num_classes).sum(1)
        present = torch.tensor([len(target["labels"]) for target in targets], device=logits.device)
        return {
            "class_error": sum_of(100 * wrong.float().sum(), _num_matched(indices)),
            "cardinality_error": sum_of((found - present).abs().float().sum(), len(targets)),
        }


def batch_means(
    sums: Mapping[str, Sum],
    num_targets: float,
    query_weights: float | None = None,
    metric_counts: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """The means that a training step goes by.

    Args:
        sums: of the criterion.
        num_targets: what box and mask losses are divided by instead of their own count: the targets that a process has
            on average, at least 1, so that the losses' scale is that of the batch of all processes.
        query_weights: likewise of the cross entropy; None: its own. (DETR divides by its own in each process, so that
            its losses depend on how a batch is spread over processes.)
        metric_counts: likewise of metrics; those that aren't there have their own.
    """
    counts = {"loss_ce": query_weights, **(metric_counts or {}), **dict.fromkeys(PER_TARGET, num_targets)}
    means = {}
    for name, each in sums.items():
        count = counts.get(loss_kind(name))
        means[name] = each.mean if count is None else each.mean * (each.count / count)
    return means


def added(sums: Mapping[str, Sum], more: Mapping[str, Sum]) -> dict[str, Sum]:
    """The sums of two batches together."""
    return {**sums, **{name: sums[name] + each if name in sums else each for name, each in more.items()}}


def weighted(values: Mapping[str, _Value], weights: Mapping[str, float]) -> dict[str, _Value]:
    """Means or sums times the weight of their kind (:func:`loss_kind`); those without a weight are left out."""
    return {name: value * weights[loss_kind(name)] for name, value in values.items() if loss_kind(name) in weights}


def loss_kind(name: str) -> str:
    """The name of a loss without the number of its decoder layer: loss_ce_3 is a loss_ce."""
    return "_".join(name.split("_")[:2])


def predictions_of(outputs: dict[str, Any], image: int) -> dict[str, Any]:
    """What is compared with targets, of one of a batch's images, as a batch of one."""
    aux_outputs = [predictions_of(earlier, image) for earlier in outputs.get("aux_outputs", [])]
    predictions = {name: outputs[name][image, None] for name in ("pred_logits", "pred_boxes")}
    return predictions | {"aux_outputs": aux_outputs}


def _num_matched(indices: Matching) -> int:
    return sum(len(queries) for queries, _ in indices)


def _matched(targets: list[Target], key: str, indices: Matching) -> Tensor:
    """The targets' entries in the order of the matched queries, all images one after the other."""
    pairs = zip(targets, indices, strict=True)
    return torch.cat([target[key][order.to(target[key].device)] for target, (_, order) in pairs])


def _padded_size(targets: list[Target], padding: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the padded masks: ``padding`` times those of the largest."""
    height, width = (round(max(target["masks"].shape[1 + i] for target in targets) * padding[i]) for i in (0, 1))
    return height, width


def _padded_masks(targets: list[Target], indices: Matching, padding: tuple[float, float]) -> Tensor:
    """The matched targets' masks (M, H, W) bool, padded with False to ``padding`` times the size of the largest one."""
    device = targets[0]["masks"].device
    padded = torch.zeros(_num_matched(indices), *_padded_size(targets, padding), dtype=torch.bool, device=device)
    start = 0
    for target, (_, order) in zip(targets, indices, strict=True):
        masks = target["masks"][order.to(device)]
        padded[start : start + len(masks), : masks.shape[1], : masks.shape[2]] = masks
        start += len(masks)
    return padded
