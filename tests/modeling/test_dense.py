"""Dense predictions: the places of a segment share its weight, padding has none, and inference knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from detr_d2.data import DetrPanopticDatasetMapper
from detr_d2.modeling import DensePredictions
from detr_d2.modeling.dense import _assigned, _places

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

Config = Callable[..., CfgNode]


def test_places_are_the_centres_of_what_is_no_padding() -> None:
    padding = torch.zeros(1, 3, 4, dtype=torch.bool)
    padding[:, 2:] = padding[:, :, 2:] = True

    places = _places(padding)[0].view(3, 4, 2)

    assert places[0, 0].tolist() == [0.25, 0.25] and places[1, 1].tolist() == [0.75, 0.75]
    assert bool((places[2:] > 1).all()) and bool((places[:, 2:] > 1).all())


def test_the_smallest_box_has_a_place_and_the_places_of_a_box_share_one_weight() -> None:
    places = _places(torch.zeros(1, 8, 8, dtype=torch.bool))[0]
    target = {
        "labels": torch.tensor([3, 1, 4]),
        "boxes": torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.25, 0.5, 0.5], [0.99, 0.99, 0.01, 0.01]]),
    }

    weights, labels, boxes = _assigned(places, target)

    assert labels.view(8, 8)[:4, :4].eq(1).all() and labels.view(8, 8)[4:].eq(3).all()
    assert torch.equal(boxes[0], target["boxes"][1])
    assert [weights[labels == label].sum().item() for label in (3, 1, 4)] == [pytest.approx(1), pytest.approx(1), 0]


def test_exact_boxes_have_no_loss() -> None:
    dense = DensePredictions(8, 5)
    target = {"labels": torch.tensor([2]), "boxes": torch.tensor([[0.5, 0.5, 1.0, 1.0]])}
    with torch.no_grad():
        dense.bbox_embed.layers[-1].weight.zero_()
        dense.bbox_embed.layers[-1].bias.fill_(torch.tensor(0.5).expm1().log().item())  # softplus gives 0.5

    sums = dense(torch.randn(1, 8, 1, 1), torch.zeros(1, 1, 1, dtype=torch.bool), [target])

    assert sums["loss_bbox_dense"].mean.item() == pytest.approx(0, abs=1e-6)
    assert sums["loss_giou_dense"].mean.item() == pytest.approx(0, abs=1e-6)
    assert sums["loss_bbox_dense"].count == 1


def test_images_without_segments_have_no_loss() -> None:
    target = {"labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)}

    sums = DensePredictions(8, 5)(torch.randn(1, 8, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool), [target])

    assert all(each.mean.item() == 0 for each in sums.values())


def test_every_parameter_is_trained_and_inference_has_none_of_them(tiny_config: Config) -> None:
    cfg = tiny_config("MODEL.DETR.DENSE_LOSSES", True, "MODEL.DETR.MEMORY_FEATURE", "res4")
    model = build_model(cfg).train()
    mapper = DetrPanopticDatasetMapper(cfg, is_train=True)
    items = [mapper(item) for item in DatasetCatalog.get("yard_train")[:2]]

    losses = model(items)
    sum(losses.values()).backward()

    assert {"loss_ce_dense", "loss_bbox_dense", "loss_giou_dense"} <= losses.keys()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert not hasattr(model.detr.backbone, "res5")
    plain = build_model(tiny_config("MODEL.DETR.MEMORY_FEATURE", "res4")).eval()
    plain.load_state_dict({name: each for name, each in model.state_dict().items() if not name.startswith("dense.")})
    inputs = [{"image": item["image"]} for item in items]
    for one, other in zip(model.eval()(inputs), plain(inputs), strict=True):
        assert torch.equal(one["instances"].scores, other["instances"].scores)
