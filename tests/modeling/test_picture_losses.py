"""The mean of pictures' losses is the loss of one batch that holds them all."""

from __future__ import annotations

import pytest
import torch

from detr_d2.modeling import HungarianMatcher, SetCriterion, picture_losses
from detr_d2.modeling.criterion import MASKS_AT_ONCE
from detr_d2.modeling.picture_losses import remembering

CLASSES, QUERIES, SIZE = 3, 40, (8, 12)
WEIGHTS = {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0, "loss_mask": 1.0, "loss_dice": 3.0}


def _target(count: int, size: tuple[int, int] = SIZE) -> dict[str, torch.Tensor]:
    center, side = torch.rand(count, 2) * 0.5 + 0.25, torch.rand(count, 2) * 0.4 + 0.05
    return {
        "labels": torch.randint(CLASSES, (count,)),
        "boxes": torch.cat([center, side], 1),
        "masks": torch.rand(count, *size) > 0.5,
    }


def _outputs(batch: int) -> dict:
    layers = [
        {"pred_logits": torch.randn(batch, QUERIES, CLASSES + 1), "pred_boxes": torch.rand(batch, QUERIES, 4)}
        for _ in range(2)
    ]
    return layers[1] | {"aux_outputs": layers[:1]}


@pytest.fixture
def criterion() -> SetCriterion:
    return SetCriterion(CLASSES, HungarianMatcher())


@pytest.mark.parametrize("counts", [(2, 5, 0, MASKS_AT_ONCE + 3), (0, 0), (QUERIES + 4, 1)])
def test_weighted_mean_over_pictures_equals_one_batch(criterion, counts):
    outputs, targets = _outputs(len(counts)), [_target(count) for count in counts]
    logits = torch.randn(len(counts), QUERIES, 2, 3)

    def predict(batch, queries):
        return logits[batch, queries]

    parts = [picture_losses(criterion, outputs, i, target, predict, WEIGHTS) for i, target in enumerate(targets)]
    losses, figures = criterion(outputs, targets, max(1, sum(counts)), predict)

    assert set(parts[0]) == set(losses) | {"class_error", "cardinality_error"}
    for name in parts[0]:
        shares = sum(part[name][1] for part in parts)
        mean = sum(part[name][0] * part[name][1] for part in parts) / max(shares, 1e-9)
        whole = figures[name] if name in figures else losses[name] * WEIGHTS["_".join(name.split("_")[:2])]
        assert mean == pytest.approx(whole.item(), rel=1e-4, abs=1e-6), name


def test_smaller_picture_of_a_padded_batch_is_compared_with_its_padding(criterion):
    outputs, targets = _outputs(2), [_target(3), _target(2, (4, 6))]
    logits = torch.randn(2, QUERIES, 2, 3)

    parts = [
        picture_losses(criterion, outputs, i, target, lambda b, q: logits[b, q], WEIGHTS, (ratio, ratio))
        for i, (target, ratio) in enumerate(zip(targets, (1.0, 2.0), strict=True))
    ]
    losses, _ = criterion(outputs, targets, 5, lambda b, q: logits[b, q])

    mean = sum(part["loss_mask"][0] * part["loss_mask"][1] for part in parts) / 5
    assert mean == pytest.approx(losses["loss_mask"].item(), rel=1e-4)


def test_kinds_without_a_weight_are_left_out(criterion):
    found = picture_losses(criterion, _outputs(1), 0, _target(2), None, {"loss_bbox": 1.0})

    assert set(found) == {"loss_bbox", "loss_bbox_0", "class_error", "cardinality_error"}


def test_mask_losses_without_gradients_are_the_same_in_parts(criterion):
    target = _target(MASKS_AT_ONCE * 2 + 1)
    indices = [(torch.arange(len(target["labels"])),) * 2]
    logits = torch.randn(len(target["labels"]), 2, 3)

    whole = criterion.loss_masks(lambda b, q: logits, [target], indices, 7.0)
    with torch.no_grad():
        parts = criterion.loss_masks(lambda b, q: logits, [target], indices, 7.0)

    torch.testing.assert_close(parts, whole)


def test_masks_that_are_known_are_not_computed_again():
    logits, asked = torch.randn(QUERIES, 2, 3), []

    def predict(batch, queries):
        asked.extend(queries.tolist())
        return logits[queries]

    known = torch.tensor([2, 5, 9])
    found = remembering(predict, known, logits[known])(torch.zeros(4), torch.tensor([9, 1, 2, 30]))

    assert asked == [1, 30]
    torch.testing.assert_close(found, logits[[9, 1, 2, 30]])
