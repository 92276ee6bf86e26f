"""Denoising queries: near the ground truth, right at inference without them, and no hindrance to other weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.data import DetrPanopticDatasetMapper
from detr_d2.modeling import Denoising, Target
from detr_d2.modeling.denoising import box_waves

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

DENOISED = ("MODEL.DETR.DENOISING_GROUPS", 2)
Config = Callable[..., CfgNode]


def _targets(*counts: int) -> list[Target]:
    return [{"labels": torch.randint(5, (count,)), "boxes": 0.2 + 0.6 * torch.rand(count, 4)} for count in counts]


def _batch(cfg: CfgNode) -> list[dict[str, Any]]:
    mapper = DetrPanopticDatasetMapper(cfg, is_train=True)
    return [mapper(item) for item in DatasetCatalog.get("yard_train")[:2]]


def test_noised_boxes_stay_near_the_ground_truth_and_in_the_image() -> None:
    targets = _targets(40, 7)
    labels, boxes = Denoising(16, 5, box_noise=0.4).queries(targets)

    assert labels.shape == (2, 40) and boxes.shape == (2, 40, 4)
    assert boxes.min() >= 0 and boxes.max() <= 1
    for target, row in zip(targets, boxes, strict=True):
        moved, size = row[: len(target["boxes"])] - target["boxes"], target["boxes"][:, 2:]
        assert bool((moved[:, :2].abs() <= 0.2 * size + 1e-6).all()) and bool((moved != 0).any())
        assert bool((moved[:, 2:].abs() <= 0.4 * size + 1e-6).all())


def test_without_noise_the_queries_are_the_ground_truth() -> None:
    (target,) = _targets(9)
    labels, boxes = Denoising(16, 5, box_noise=0, label_noise=0).queries([target])

    assert torch.equal(labels[0], target["labels"]) and torch.equal(boxes[0], target["boxes"])


def test_a_part_of_the_classes_is_replaced() -> None:
    (target,) = _targets(20_000)
    labels, _ = Denoising(16, 5, label_noise=0.25).queries([target])

    wrong = (labels[0] != target["labels"]).float().mean().item()
    assert wrong == pytest.approx(0.25 * 4 / 5, abs=0.02)  # one in five is replaced by itself


def test_different_boxes_have_different_waves() -> None:
    boxes = torch.rand(50, 4)
    waves = box_waves(boxes, 32)

    assert waves.shape == (50, 64)
    assert torch.cdist(waves, waves).add(torch.eye(50)).min() > 0.01


def test_losses_of_every_decoder_layer_train_every_parameter(tiny_config: Config) -> None:
    cfg = tiny_config(*DENOISED)
    model = build_model(cfg).train()

    losses = model(_batch(cfg))
    sum(losses.values()).backward()

    kinds = [f"loss_{kind}{of}" for kind in ("ce", "bbox", "giou") for of in ("", "_0", "_dn", "_dn_0")]
    assert sorted(losses) == sorted(kinds)
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_images_without_objects_leave_no_parameter_without_a_gradient(tiny_config: Config) -> None:
    """Or several processes would wait for each other for ever."""
    cfg = tiny_config(*DENOISED)
    model = build_model(cfg).train()
    batch = _batch(cfg)
    for item in batch:
        item["instances"] = item["instances"][:0]

    losses = model(batch)
    sum(losses.values()).backward()

    assert losses["loss_bbox_dn"] == 0 and losses["loss_ce_dn"] > 0
    assert all(parameter.grad is not None for parameter in model.denoising.parameters())


def test_the_detector_is_the_same_with_and_without(tiny_config: Config) -> None:
    torch.manual_seed(1)
    plain = build_model(tiny_config()).eval()
    torch.manual_seed(1)
    denoised = build_model(tiny_config(*DENOISED)).eval()
    batch = _batch(tiny_config())

    assert plain.detr.state_dict().keys() == denoised.detr.state_dict().keys()
    outputs = [model.detect(batch)[0]["pred_boxes"] for model in (plain, denoised)]
    assert torch.equal(*outputs)


def test_every_stage_goes_on_from_a_denoised_one_and_the_other_way_round(
    tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, keys in {"denoised": DENOISED, "plain": ()}.items():
        DetrCheckpointer(build_model(tiny_config(*keys)), str(tmp_path)).save(name)
    masks = ("MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", True)
    caplog.clear()

    for model, file in [
        (build_model(tiny_config(*DENOISED, *masks)), "denoised"),
        (build_model(tiny_config()).eval(), "denoised"),
        (build_model(tiny_config(*DENOISED)).eval(), "plain"),
    ]:
        fine_tune = model.training
        DetrCheckpointer(model, str(tmp_path), fine_tune=fine_tune).load(str(tmp_path / f"{file}.pth"))

    assert "are not used" not in caplog.text
