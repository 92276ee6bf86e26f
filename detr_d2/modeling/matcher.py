"""Which prediction answers for which ground-truth segment: one to one, at the least cost.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", section 3.1.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from .box_ops import box_cxcywh_to_xyxy, generalized_box_iou

Target = dict[str, Tensor]
"""One image's ground truth: labels (N,) int64, boxes (N, 4) cx, cy, w, h in [0, 1], perhaps masks (N, H, W) bool."""

Matching = list[tuple[Tensor, Tensor]]
"""For each image the matched queries and the targets they answer for, both (min(Q, N),) int64."""


class HungarianMatcher(nn.Module):
    """Matches predictions to targets by class probability, L1 distance and generalised IoU of their boxes.

    Args:
        cost_class: weight of the class probability.
        cost_bbox: weight of the L1 distance between (cx, cy, w, h).
        cost_giou: weight of the generalised IoU.

    Raises:
        ValueError: all weights are 0.
    """

    def __init__(self, cost_class: float = 1.0, cost_bbox: float = 5.0, cost_giou: float = 2.0) -> None:
        super().__init__()
        if cost_class == 0 and cost_bbox == 0 and cost_giou == 0:
            raise ValueError("All three matching costs are 0, so every matching would be as good; set at least one.")
        self.cost_class, self.cost_bbox, self.cost_giou = cost_class, cost_bbox, cost_giou

    @torch.no_grad()
    def forward(self, pred_logits: Tensor, pred_boxes: Tensor, targets: list[Target]) -> Matching:
        """
        Args:
            pred_logits: (B, Q, K+1).
            pred_boxes: (B, Q, 4).
            targets: one for each image.

        Returns:
            The matching, on the CPU.

        Raises:
            FloatingPointError: predictions that are not finite.
        """
        probability, boxes = pred_logits.float().softmax(-1), pred_boxes.float()
        return [
            self._match(probability[i], boxes[i], target["labels"], target["boxes"].float())
            for i, target in enumerate(targets)
        ]

    def _match(self, probability: Tensor, boxes: Tensor, labels: Tensor, target_boxes: Tensor) -> tuple[Tensor, Tensor]:
        """One image: (Q, K+1) probabilities and (Q, 4) boxes against (N,) labels and (N, 4) boxes."""
        giou = generalized_box_iou(box_cxcywh_to_xyxy(boxes)[:, None], box_cxcywh_to_xyxy(target_boxes))
        distance = torch.cdist(boxes, target_boxes, p=1)
        cost = self.cost_bbox * distance - self.cost_class * probability[:, labels] - self.cost_giou * giou
        cost = cost.cpu()
        if not bool(cost.isfinite().all()):
            raise FloatingPointError(
                "The predictions aren't finite (NaN or infinity), so nothing can be matched. Lower the learning rate, "
                "clip gradients, or compute in full precision."
            )
        queries, matched_targets = linear_sum_assignment(cost.numpy())
        return torch.as_tensor(queries, dtype=torch.int64), torch.as_tensor(matched_targets, dtype=torch.int64)


def query_positions(indices: Matching, device: torch.device) -> tuple[Tensor, Tensor]:
    """A matching to the batch index and the query index of every matched query, both (M,), on ``device``."""
    batch_index = torch.cat([torch.full_like(queries, i) for i, (queries, _) in enumerate(indices)])
    query_index = torch.cat([queries for queries, _ in indices])
    return batch_index.to(device), query_index.to(device)


def num_targets(targets: list[Target]) -> int:
    """How many targets all images have together."""
    return sum(len(target["labels"]) for target in targets)
