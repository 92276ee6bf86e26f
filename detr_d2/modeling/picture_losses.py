"""One picture's losses with what each counts in a mean over a dataset, so that batches and processes don't matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .criterion import PredictMasks, SetCriterion, loss_kind, weighted_losses
from .matcher import Target

LossShares = dict[str, tuple[float, float]]
"""For each name of a loss or figure its value and its share in a mean."""


@torch.no_grad()
def picture_losses(
    criterion: SetCriterion,
    outputs: dict[str, Any],
    index: int,
    target: Target,
    predict_masks: PredictMasks | None,
    weights: Mapping[str, float],
    padding: tuple[float, float] = (1.0, 1.0),
) -> LossShares:
    """The criterion's losses and figures of one picture of a batch, each with its share in a mean.

    The mean of many pictures' values, weighted by their shares, is what the criterion gives for one batch that holds
    them all.

    Args:
        criterion: of the training.
        outputs: what ``Detr.forward`` returned for the batch.
        index: the picture's number in the batch.
        target: its truth.
        predict_masks: as ``SetCriterion.forward`` takes it, for the whole batch; None: no mask losses.
        weights: what each kind of loss counts; kinds that aren't named are left out.
        padding: how many times higher and wider than the picture the padded batch is; masks are compared with the
            padding, as in training.

    Returns:
        For each name of a loss or figure its weighted value and its share: targets for box and mask losses, matched
        queries for class_error, the queries' weights for the cross entropy, 1 for cardinality_error.
    """
    alone = _picture(outputs, index) | {"aux_outputs": [_picture(earlier, index) for earlier in outputs["aux_outputs"]]}
    num_targets = len(target["labels"])
    if "masks" in target:
        height, width = target["masks"].shape[-2:]
        more = (0, round(width * padding[1]) - width, 0, round(height * padding[0]) - height)
        target = target | {"masks": F.pad(target["masks"], more)}
    predict = None if predict_masks is None else lambda batch, queries: predict_masks(batch + index, queries)
    losses, figures = criterion(alone, [target], max(num_targets, 1), predict)
    counted = weighted_losses(losses, weights) | figures
    values = torch.stack([value.float() for value in counted.values()]).tolist()
    num_queries = alone["pred_logits"].shape[1]
    num_matched = min(num_targets, num_queries)
    ce_share = num_matched + float(criterion.empty_weight[-1]) * (num_queries - num_matched)
    shares = {"loss_ce": ce_share, "class_error": num_matched, "cardinality_error": 1}
    return {
        name: (value, float(shares.get(loss_kind(name), num_targets)))
        for name, value in zip(counted, values, strict=True)
    }


def remembering(predict_masks: PredictMasks, known_queries: Tensor, known_masks: Tensor) -> PredictMasks:
    """Computes masks only of those queries of a picture whose masks aren't known.

    Args:
        predict_masks: for the others.
        known_queries: (K,) numbers of the picture's queries, in ascending order.
        known_masks: (K, H/4, W/4) logits.
    """

    def predict(batch_index: Tensor, queries: Tensor) -> Tensor:
        unknown = ~torch.isin(queries, known_queries)
        masks = known_masks.new_empty(len(queries), *known_masks.shape[1:])
        masks[~unknown] = known_masks[torch.searchsorted(known_queries, queries[~unknown])]
        if bool(unknown.any()):
            masks[unknown] = predict_masks(batch_index[unknown], queries[unknown]).to(masks.dtype)
        return masks

    return predict


def _picture(outputs: dict[str, Any], index: int) -> dict[str, Any]:
    """One picture's predictions, as a batch of one."""
    return {name: outputs[name][index, None] for name in ("pred_logits", "pred_boxes")}
