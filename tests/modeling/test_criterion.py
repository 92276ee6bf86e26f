"""The losses: what a perfect and an empty prediction cost, and how batches add up."""

import pytest
import torch
from torch.nn import functional as F

from detr_d2.modeling.criterion import (
    MASKS_AT_ONCE,
    METRICS,
    SetCriterion,
    added,
    batch_means,
    predictions_of,
    weighted,
)
from detr_d2.modeling.matcher import HungarianMatcher, num_targets, query_positions

NUM_CLASSES = 3


def _criterion() -> SetCriterion:
    return SetCriterion(NUM_CLASSES, HungarianMatcher())


def _means(outputs: dict, targets: list, predict_masks=None) -> dict[str, torch.Tensor]:
    """The criterion's means of one batch; ``predict_masks`` gives masks for batch and query indices."""
    criterion = _criterion()
    indices = criterion.match(outputs, targets)
    masks = predict_masks and predict_masks(*query_positions(indices, torch.device("cpu")))
    return batch_means(criterion(outputs, targets, indices, masks), max(1, num_targets(targets)))


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

    means = _means(_perfect_outputs(target), [target], lambda batch, query: target["masks"][query].float() * 80 - 40)

    for name, value in means.items():
        assert value.item() == pytest.approx(0, abs=2e-2), name
    assert means["class_error"] == 0 and means["cardinality_error"] == 0


def test_aux_outputs_have_the_same_losses_with_a_suffix_but_no_masks():
    target = _target()
    outputs = _perfect_outputs(target)
    outputs["aux_outputs"] = [{"pred_logits": outputs["pred_logits"] * 0.1, "pred_boxes": outputs["pred_boxes"]}]

    means = _means(outputs, [target], lambda batch, query: torch.zeros(len(query), 2, 3))

    assert set(means) == {
        *METRICS,
        *("loss_ce", "loss_bbox", "loss_giou", "loss_mask", "loss_dice"),
        *("loss_ce_0", "loss_bbox_0", "loss_giou_0"),
    }


def test_image_without_targets_trains_no_object_only():
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

    losses = _means(outputs, [empty], lambda batch, query: outputs["pred_boxes"].sum() * torch.zeros(0, 2, 3))
    sum(losses.values()).backward()

    expected = F.cross_entropy(outputs["pred_logits"][0], torch.full((4,), NUM_CLASSES))
    torch.testing.assert_close(losses["loss_ce"], expected)
    assert losses["loss_bbox"] == losses["loss_giou"] == losses["loss_mask"] == losses["loss_dice"] == 0


def test_no_object_counts_a_tenth():
    logits = torch.randn(1, 2, NUM_CLASSES + 1)
    target = {"labels": torch.tensor([1]), "boxes": torch.rand(1, 4)}

    indices = [(torch.tensor([0]), torch.tensor([0]))]
    found = _criterion().loss_labels({"pred_logits": logits}, [target], indices)["loss_ce"]

    log_probability = logits[0].log_softmax(-1)
    torch.testing.assert_close(found.total, -(log_probability[0, 1] + 0.1 * log_probability[1, NUM_CLASSES]))
    assert found.count == pytest.approx(1.1)


def test_mask_ids_are_compared_where_they_are_wanted_and_within_an_image():
    outputs, targets = _random_outputs(3), [_random_target(count) for count in (3, 0, 2)]
    masks = torch.randn(3, QUERIES, 2, 3, requires_grad=True)
    criterion = SetCriterion(NUM_CLASSES, HungarianMatcher(), mask_id=True)
    indices = criterion.match(outputs, targets)

    def sums_of(images: list[int]) -> dict:
        chosen = [indices[image] for image in images]
        logits = torch.cat([masks[image, queries] for image, (queries, _) in zip(images, chosen)])
        return criterion.loss_masks(logits, [targets[image] for image in images], chosen)

    whole, first, last = sums_of([0, 1, 2])["loss_maskid"], sums_of([0])["loss_maskid"], sums_of([2])["loss_maskid"]

    torch.testing.assert_close(whole.total, first.total + last.total)
    assert whole.count == 5 and whole.mean > 0
    assert "loss_maskid" not in _criterion().loss_masks(masks[0, :3], targets[:1], indices[:1])


def test_masks_of_images_of_two_sizes_are_compared_with_their_own_targets():
    small, large = _target(1, seed=1), _target(2, seed=2)
    small["masks"] = small["masks"][:, :4, :6]
    outputs = [_perfect_outputs(small), _perfect_outputs(large)]
    outputs = {key: torch.cat([out[key] for out in outputs]) for key in ("pred_logits", "pred_boxes")} | {
        "aux_outputs": []
    }
    masks = torch.zeros(2, 2, 8, 12)
    masks[0, 0, :4, :6], masks[1] = small["masks"][0].float(), large["masks"].float()

    losses = _means(outputs, [small, large], lambda batch, query: masks[batch, query] * 80 - 40)

    assert losses["loss_dice"] < 1e-3


def test_half_precision_losses_are_fp32():
    target = _target()
    outputs = _perfect_outputs(target)
    half = {key: outputs[key].bfloat16() for key in ("pred_logits", "pred_boxes")} | {"aux_outputs": []}

    means = _means(half, [target], lambda batch, query: torch.zeros(len(query), 2, 3).bfloat16())

    assert all(value.dtype == torch.float32 for value in means.values())


QUERIES, SIZE = 40, (8, 12)


def _random_target(count: int, size: tuple[int, int] = SIZE) -> dict[str, torch.Tensor]:
    center, side = torch.rand(count, 2) * 0.5 + 0.25, torch.rand(count, 2) * 0.4 + 0.05
    return {
        "labels": torch.randint(NUM_CLASSES, (count,)),
        "boxes": torch.cat([center, side], 1),
        "masks": torch.rand(count, *size) > 0.5,
    }


def _random_outputs(batch: int) -> dict:
    layers = [
        {"pred_logits": torch.randn(batch, QUERIES, NUM_CLASSES + 1), "pred_boxes": torch.rand(batch, QUERIES, 4)}
        for _ in range(2)
    ]
    return layers[1] | {"aux_outputs": layers[:1]}


def _sums_image_by_image(outputs: dict, targets: list, masks: torch.Tensor, padding=None) -> dict:
    """The sums of a batch (B, Q, h, w) of masks, one image after the other."""
    sums, criterion = {}, _criterion()
    for i, target in enumerate(targets):
        own = predictions_of(outputs, i)
        indices = criterion.match(own, [target])
        more = criterion(own, [target], indices, masks[i, indices[0][0]], padding[i] if padding else (1.0, 1.0))
        sums = added(sums, more)
    return sums


@pytest.mark.parametrize("counts", [(2, 5, 0, MASKS_AT_ONCE + 3), (0, 0), (QUERIES + 4, 1)])
def test_sums_of_images_are_those_of_one_batch_that_holds_them_all(counts):
    outputs, targets = _random_outputs(len(counts)), [_random_target(count) for count in counts]
    masks = torch.randn(len(counts), QUERIES, 2, 3)
    indices = _criterion().match(outputs, targets)
    whole = _criterion()(outputs, targets, indices, masks[query_positions(indices, masks.device)])

    found = _sums_image_by_image(outputs, targets, masks)

    assert set(found) == set(whole) and {"loss_giou_0", "loss_dice", "class_error"} <= set(whole)
    for name, each in whole.items():
        assert found[name].count == pytest.approx(each.count), name
        assert found[name].total.item() == pytest.approx(each.total.item(), rel=1e-4, abs=1e-4), name
        assert found[name].mean.item() == pytest.approx(each.mean.item(), rel=1e-4, abs=1e-6), name
    means = _means(outputs, targets, lambda batch, query: masks[batch, query])
    assert {name: each.mean.item() for name, each in whole.items()} == pytest.approx(
        {name: value.item() for name, value in means.items()}, rel=1e-5, abs=1e-6
    )


def test_smaller_image_of_a_padded_batch_is_compared_with_its_padding():
    outputs, targets = _random_outputs(2), [_random_target(3), _random_target(2, (4, 6))]
    masks = torch.randn(2, QUERIES, 2, 3)

    found = _sums_image_by_image(outputs, targets, masks, [(1.0, 1.0), (2.0, 2.0)])

    losses = _means(outputs, targets, lambda batch, query: masks[batch, query])
    for name in ("loss_mask", "loss_dice"):
        assert found[name].mean.item() == pytest.approx(losses[name].item(), rel=1e-4), name


def test_other_processes_targets_scale_what_is_counted_in_targets_and_nothing_else():
    outputs, targets = _random_outputs(1), [_random_target(6)]
    sums = _criterion()(outputs, targets, _criterion().match(outputs, targets))

    alone, of_many = batch_means(sums, 6.0), batch_means(sums, 12.0)

    for name, value in alone.items():
        factor = 0.5 if name.startswith(("loss_bbox", "loss_giou")) else 1.0
        torch.testing.assert_close(of_many[name], value * factor)


def test_kinds_without_a_weight_are_left_out_and_metrics_stay_as_they_are():
    outputs, targets = _random_outputs(1), [_random_target(2)]
    sums = _criterion()(outputs, targets, _criterion().match(outputs, targets))

    found = weighted(sums, {"loss_bbox": 5.0} | METRICS)

    assert set(found) == {"loss_bbox", "loss_bbox_0", "class_error", "cardinality_error"}
    torch.testing.assert_close(found["loss_bbox_0"].total, 5 * sums["loss_bbox_0"].total)
    assert found["loss_bbox"].count == sums["loss_bbox"].count == 2
    torch.testing.assert_close(found["class_error"].total, sums["class_error"].total)


def test_mask_losses_without_gradients_are_the_same_in_parts():
    target = _random_target(MASKS_AT_ONCE * 2 + 1)
    indices = [(torch.arange(len(target["labels"])),) * 2]
    logits = torch.randn(len(target["labels"]), 2, 3)

    whole = _criterion().loss_masks(logits, [target], indices)
    with torch.no_grad():
        parts = _criterion().loss_masks(logits, [target], indices)

    for name, each in whole.items():
        torch.testing.assert_close(parts[name].mean, each.mean)


def _masks_of_two_images() -> tuple[list, list, torch.Tensor]:
    """Targets of two sizes and their matching, and mask logits of 4 masks that stand for the padded batch."""
    torch.manual_seed(0)
    targets = [_random_target(3), _random_target(1, (4, 6))]
    return targets, [(torch.arange(count),) * 2 for count in (3, 1)], torch.randn(4, 2, 3, requires_grad=True)


def test_points_have_the_losses_of_all_pixels_where_nothing_is_more_certain_than_the_rest():
    targets, indices, logits = _masks_of_two_images()
    at_points = SetCriterion(NUM_CLASSES, HungarianMatcher(), mask_id=True, mask_points=100_000)
    at_pixels = SetCriterion(NUM_CLASSES, HungarianMatcher(), mask_id=True)
    even = torch.ones_like(logits) * torch.tensor([0.5, -0.5, 0.5, -0.5])[:, None, None]

    found, wanted = at_points.loss_masks(even, targets, indices), at_pixels.loss_masks(even, targets, indices)

    assert found.keys() == wanted.keys()
    for name, each in wanted.items():
        assert found[name].count == each.count and each.mean > 0
        # The 1 that dice adds weighs less against 100,000 points than against 96 pixels.
        assert found[name].mean.item() == pytest.approx(each.mean.item(), rel=0.03), name


def test_points_are_for_training_and_follow_from_the_random_numbers():
    targets, indices, logits = _masks_of_two_images()
    criterion = SetCriterion(NUM_CLASSES, HungarianMatcher(), mask_id=True, mask_points=5)

    def losses(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return [each.mean.item() for each in criterion.loss_masks(logits, targets, indices).values()]

    assert losses(1) == losses(1) != losses(2)
    criterion.eval()
    plain = SetCriterion(NUM_CLASSES, HungarianMatcher(), mask_id=True).loss_masks(logits, targets, indices)
    assert losses(1) == losses(2) == [each.mean.item() for each in plain.values()]


def test_points_of_a_batch_without_masks_cost_nothing_and_give_gradients():
    criterion = SetCriterion(NUM_CLASSES, HungarianMatcher(), mask_id=True, mask_points=5)
    logits = torch.zeros(0, 2, 3, requires_grad=True)

    found = criterion.loss_masks(logits, [_random_target(0)], [(torch.zeros(0, dtype=torch.int64),) * 2])
    sum(each.mean for each in found.values()).backward()

    assert all(each.mean == 0 and each.count == 0 for each in found.values()) and logits.grad.shape == logits.shape
