"""The matching: the cheapest one, against brute force."""

import itertools

import pytest
import torch
from torchvision.ops import generalized_box_iou

from detr_d2.modeling.box_ops import box_cxcywh_to_xyxy
from detr_d2.modeling.matcher import HungarianMatcher


def _random_case(seed: int, num_queries: int = 5, num_targets: int = 3, num_classes: int = 4):
    torch.manual_seed(seed)
    logits, boxes = torch.randn(1, num_queries, num_classes + 1), torch.rand(1, num_queries, 4) * 0.5 + 0.25
    target = {"labels": torch.randint(num_classes, (num_targets,)), "boxes": torch.rand(num_targets, 4) * 0.5 + 0.25}
    return logits, boxes, target


def _cost(logits, boxes, target, query, index) -> float:
    giou = generalized_box_iou(
        box_cxcywh_to_xyxy(boxes[0, query][None]), box_cxcywh_to_xyxy(target["boxes"][index][None])
    )
    distance = (boxes[0, query] - target["boxes"][index]).abs().sum()
    return float(5 * distance - logits[0, query].softmax(-1)[target["labels"][index]] - 2 * giou)


@pytest.mark.parametrize("seed", range(8))
def test_matching_costs_no_more_than_any_other(seed):
    logits, boxes, target = _random_case(seed)

    [(queries, targets)] = HungarianMatcher()(logits, boxes, [target])

    found = sum(_cost(logits, boxes, target, q, t) for q, t in zip(queries.tolist(), targets.tolist()))
    best = min(
        sum(_cost(logits, boxes, target, q, t) for t, q in enumerate(order))
        for order in itertools.permutations(range(5), 3)
    )
    assert sorted(targets.tolist()) == [0, 1, 2]
    assert found == pytest.approx(best, abs=1e-5)


def test_matching_of_an_image_does_not_depend_on_its_batch():
    cases = [_random_case(seed, num_targets=seed) for seed in (0, 3, 2)]
    logits, boxes = torch.cat([case[0] for case in cases]), torch.cat([case[1] for case in cases])

    together = HungarianMatcher()(logits, boxes, [case[2] for case in cases])

    for (queries, targets), (one_logits, one_boxes, target) in zip(together, cases):
        [(alone_queries, alone_targets)] = HungarianMatcher()(one_logits, one_boxes, [target])
        assert torch.equal(queries, alone_queries) and torch.equal(targets, alone_targets)


def test_more_targets_than_queries_leaves_some_unmatched():
    logits, boxes, target = _random_case(0, num_queries=2, num_targets=4)

    [(queries, targets)] = HungarianMatcher()(logits, boxes, [target])

    assert sorted(queries.tolist()) == [0, 1] and len(set(targets.tolist())) == 2


def test_half_precision_matches_as_its_fp32_values():
    logits, boxes, target = _random_case(1)

    half = HungarianMatcher()(logits.bfloat16(), boxes.bfloat16(), [target])
    full = HungarianMatcher()(logits.bfloat16().float(), boxes.bfloat16().float(), [target])

    assert torch.equal(half[0][0], full[0][0]) and torch.equal(half[0][1], full[0][1])


def test_predictions_that_are_not_finite_say_what_to_do():
    logits, boxes, target = _random_case(0)
    boxes[0, 0] = float("nan")

    with pytest.raises(FloatingPointError, match=r"aren't finite.*Lower the learning rate"):
        HungarianMatcher()(logits, boxes, [target])


def test_all_costs_zero_is_refused():
    with pytest.raises(ValueError, match="0"):
        HungarianMatcher(0, 0, 0)
