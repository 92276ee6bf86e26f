"""How far a mask is from the ground truth, and at which points it is worth looking.

Points are x and y in [0, 1] of a padded image. In training most of them are where a mask is uncertain, which is at its
borders: a few thousand points say there what a million pixels say, in a fraction of the memory.

Source: focal loss: Lin et al. 2017, "Focal Loss for Dense Object Detection"; dice loss: Milletari et al. 2016, "V-Net";
mask-id cross entropy: Wang et al. 2021, "MaX-DeepLab: End-to-End Panoptic Segmentation with Mask Transformers"; points:
Kirillov et al. 2020, "PointRend: Image Segmentation as Rendering", section 3.1, for masks in a loss as in Cheng et al.
2022, "Masked-attention Mask Transformer for Universal Image Segmentation", section 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

OVERSAMPLING = 3
"""How many times more points are drawn than are taken."""

UNCERTAIN_PART = 0.75
"""Of the points that are taken, the part that are the most uncertain ones of those drawn; the others are anywhere."""


def sigmoid_focal_loss(logits: Tensor, gt_masks: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of each mask: (N, P) logits and (N, P) masks of 0 and 1 to the mean over its pixels (N,)."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, gt_masks, reduction="none")
    probability = logits.sigmoid()
    miss = probability + gt_masks - 2 * probability * gt_masks  # 1 - probability of what is right, as masks are 0 or 1
    loss = cross_entropy * miss**gamma
    if alpha >= 0:
        loss = loss * (alpha * gt_masks + (1 - alpha) * (1 - gt_masks))
    return loss.mean(1)


def dice_loss(logits: Tensor, gt_masks: Tensor) -> Tensor:
    """1 - dice of each mask, with 1 added above and below: (N, P) logits and (N, P) masks of 0 and 1 to (N,)."""
    probability = logits.sigmoid()
    overlap = 2 * (probability * gt_masks).sum(1)
    return 1 - (overlap + 1) / (probability.sum(1) + gt_masks.sum(1) + 1)


def mask_id_loss(logits: Tensor, gt_masks: Tensor) -> Tensor:
    """Cross entropy of which of an image's masks each pixel belongs to, as inference decides it.

    Args:
        logits: (N, H, W) of all matched queries of one image, or (N, P) at points that they share.
        gt_masks: bool, of the same shape.

    Returns:
        () the mean over the pixels or points that belong to a mask; 0 where there is none.
    """
    labelled = gt_masks.any(0)
    right = (logits * gt_masks).sum(0) / gt_masks.sum(0).clamp(min=1)
    return ((logits.logsumexp(0) - right) * labelled).sum() / labelled.sum().clamp(min=1)


@torch.no_grad()
def uncertain_points(logits: Tensor, count: int) -> Tensor:
    """Points where each of the masks (N, h, w) is near its border, by torch's random numbers: (N, count, 2)."""
    drawn = torch.rand(len(logits), OVERSAMPLING * count, 2, device=logits.device)
    return _chosen(drawn, at_points(logits, drawn).abs(), count)


@torch.no_grad()
def undecided_points(logits: Tensor, count: int) -> Tensor:
    """Points where the two strongest of an image's masks (N, h, w) are close to each other: (1, count, 2)."""
    drawn = torch.rand(1, OVERSAMPLING * count, 2, device=logits.device)
    strongest = at_points(logits, drawn).topk(min(2, len(logits)), dim=0).values
    return _chosen(drawn, strongest[:1] - strongest[-1:], count)


def _chosen(drawn: Tensor, certainty: Tensor, count: int) -> Tensor:
    """Of points (M, D, 2) with a certainty (M, D) the least certain ones, and new ones for the rest of ``count``."""
    least = certainty.topk(int(UNCERTAIN_PART * count), dim=1, largest=False).indices
    others = torch.rand(len(drawn), count - least.shape[1], 2, device=drawn.device)
    return torch.cat([drawn.gather(1, least[..., None].expand(-1, -1, 2)), others], dim=1)


def at_points(logits: Tensor, points: Tensor) -> Tensor:
    """Logits (N, h, w) at points (N, P, 2) of each mask, or at (1, P, 2) of all, between pixels bilinearly: (N, P)."""
    grid = (2 * points - 1).expand(len(logits), -1, -1)[:, None]
    values = F.grid_sample(logits[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return values[:, 0, 0]


def masks_at_points(masks: Tensor, order: Tensor, points: Tensor, size: tuple[int, int]) -> Tensor:
    """What masks hold at points, without a copy of the masks.

    Args:
        masks: (T, H, W) bool of an image.
        order: (N,) which of them.
        points: (N, P, 2) of each, or (1, P, 2) of all.
        size: height and width of the padded image, of which the points are; no smaller than the masks.

    Returns:
        (N, P) bool; False on the padding.
    """
    height, width = masks.shape[-2:]
    x, y = (points * points.new_tensor([size[1], size[0]])).long().unbind(-1)
    is_inside = (x < width) & (y < height)
    order = order.to(masks.device)[:, None]
    found = masks[order, y.clamp(max=height - 1), x.clamp(max=width - 1)]
    return found & is_inside
