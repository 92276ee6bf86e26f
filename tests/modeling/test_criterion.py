"""The losses: what a perfect and an empty prediction cost, and torchvision's formulas."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss as torchvision_focal

from detr_d2.modeling.criterion import SetCriterion, dice_loss, sigmoid_focal_loss
from detr_d2.modeling.matcher import HungarianMatcher

NUM_CLASSES = 3


def _criterion() -> SetCriterion:
    return SetCriterion(NUM_CLASSES, HungarianMatcher())


def _target(count: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    masks = torch.rand(count, 8, 12) > 0.5
    return {"labels": torch.arange(count) % NUM_CLASSES, "boxes": torch.rand(count, 4) * 0.4 + 0.3, "masks": masks}


def _perfect_outputs(target: dict[str, torch.Tensor], num_queries: int = 4) -> dict:
    logits = torch.full((1, num_queries, NUM_CLASSES + 1), -20.0)
    boxes = torch.full((1, num_queries, 4), 0.1)
    logits[0, :, -1] = 20.0
    for i, (label, box) in enumerate(zip(target["labels"], target["boxes"])):
        logits[0, i, -1], logits[0, i, label], boxes[0, i] = -20.0, 20.0, box
    return {"pred_logits": logits, "pred_boxes": boxes, "aux_outputs": []}


def test_perfect_prediction_costs_nothing():
    target = _target()

    losses, figures = _criterion()(
        _perfect_outputs(target), [target], 2, lambda batch, query: target["masks"][query].float() * 80 - 40
    )

    for name, value in losses.items():
        assert value.item() == pytest.approx(0, abs=2e-2), name
    assert figures["class_error"] == 0 and figures["cardinality_error"] == 0


def test_aux_outputs_have_the_same_losses_with_a_suffix_but_no_masks():
    target = _target()
    outputs = _perfect_outputs(target)
    outputs["aux_outputs"] = [{"pred_logits": outputs["pred_logits"] * 0.1, "pred_boxes": outputs["pred_boxes"]}]

    losses, _ = _criterion()(outputs, [target], 2, lambda batch, query: torch.zeros(len(query), 2, 3))

    assert set(losses) == {
        *("loss_ce", "loss_bbox", "loss_giou", "loss_mask", "loss_dice"),
        *("loss_ce_0", "loss_bbox_0", "loss_giou_0"),
    }


def test_picture_without_targets_trains_no_object_only():
    outputs = {
        "pred_logits": torch.randn(1, 4, NUM_CLASSES + 1, requires_grad=True),
        "pred_boxes": torch.rand(1, 4, 4, requires_grad=True),
        "aux_outputs": [],
    }
    empty = {
        "labels": torch.zeros(0, dtype=torch.int64),
        "boxes": torch.zeros(0, 4),
        "masks": torch.zeros(0, 8, 12) > 0,
    }

    losses, _ = _criterion()(
        outputs, [empty], 1, lambda batch, query: outputs["pred_boxes"].sum() * torch.zeros(0, 2, 3)
    )
    sum(losses.values()).backward()

    expected = F.cross_entropy(outputs["pred_logits"][0], torch.full((4,), NUM_CLASSES))
    torch.testing.assert_close(losses["loss_ce"], expected)
    assert losses["loss_bbox"] == losses["loss_giou"] == losses["loss_mask"] == losses["loss_dice"] == 0


def test_no_object_counts_a_tenth():
    logits = torch.randn(1, 2, NUM_CLASSES + 1)
    target = {"labels": torch.tensor([1]), "boxes": torch.rand(1, 4)}

    loss = _criterion().loss_labels({"pred_logits": logits}, [target], [(torch.tensor([0]), torch.tensor([0]))])[
        "loss_ce"
    ]

    log_probability = logits[0].log_softmax(-1)
    torch.testing.assert_close(loss, -(log_probability[0, 1] + 0.1 * log_probability[1, NUM_CLASSES]) / 1.1)


def test_focal_loss_equals_torchvision():
    logits, wanted = torch.randn(3, 50) * 4, (torch.rand(3, 50) > 0.5).float()

    ours = sigmoid_focal_loss(logits, wanted)

    torch.testing.assert_close(ours, torchvision_focal(logits, wanted, alpha=0.25, gamma=2).mean(1))


def test_dice_loss_is_zero_for_the_truth_and_near_one_for_its_opposite():
    wanted = (torch.rand(2, 400) > 0.5).float()

    right, wrong = dice_loss(wanted * 80 - 40, wanted), dice_loss(40 - wanted * 80, wanted)

    assert right.abs().max() < 1e-5 and wrong.min() > 0.99


def test_masks_of_pictures_of_two_sizes_are_compared_with_their_own_truth():
    small, large = _target(1, seed=1), _target(2, seed=2)
    small["masks"] = small["masks"][:, :4, :6]
    outputs = [_perfect_outputs(small), _perfect_outputs(large)]
    outputs = {key: torch.cat([out[key] for out in outputs]) for key in ("pred_logits", "pred_boxes")} | {
        "aux_outputs": []
    }
    truth = torch.zeros(2, 2, 8, 12)
    truth[0, 0, :4, :6], truth[1] = small["masks"][0].float(), large["masks"].float()

    losses, _ = _criterion()(outputs, [small, large], 3, lambda batch, query: truth[batch, query] * 80 - 40)

    assert losses["loss_dice"] < 1e-3


def test_half_precision_losses_are_fp32():
    target = _target()
    outputs = _perfect_outputs(target)
    half = {key: outputs[key].bfloat16() for key in ("pred_logits", "pred_boxes")} | {"aux_outputs": []}

    losses, _ = _criterion()(half, [target], 2, lambda batch, query: torch.zeros(len(query), 2, 3).bfloat16())

    assert all(value.dtype == torch.float32 for value in losses.values())
