"""Every config of the project builds its network at full size and trains a step, on a small image."""

from __future__ import annotations

import pytest
import torch

import detr_d2
from detr_d2.data import DetrPanopticDatasetMapper

from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

CONFIGS = ["R101", "DC5_R50", "DC5_R101", "panoptic_R50", "panoptic_R101", "panoptic_DC5_R50", "panoptic_DC5_R101"]


@pytest.mark.parametrize("name", CONFIGS)
def test_config_trains_a_step_and_predicts(name, tiny_config, project_folder):
    tiny = tiny_config("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "INPUT.DETR_CROP.ENABLED", False)
    cfg = detr_d2.load_config(str(project_folder / "configs" / f"detr_{name}.yaml"))
    cfg.DATASETS, cfg.INPUT = tiny.DATASETS, tiny.INPUT
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    item = DatasetCatalog.get("yard_train")[0]

    losses = model.train()([DetrPanopticDatasetMapper(cfg, is_train=True)(item)])
    sum(losses.values()).backward()
    batch = [DetrPanopticDatasetMapper(cfg, is_train=False)(item)]
    with torch.no_grad():
        [result] = model.eval()(batch)
        features = model.detr.backbone(torch.zeros(1, 3, 64, 96))

    assert {"loss_mask", "loss_dice"} <= set(losses) if "panoptic" in name else "loss_ce_4" in losses
    assert all(value.isfinite() for value in losses.values())
    stride = 16 if "DC5" in name else 32
    assert features["res5"].shape == (1, 2048, 64 // stride, 96 // stride)
    assert len(model.detr.backbone.res4) == (23 if "R101" in name else 6)
    assert model.detr.query_embed.weight.shape == (100, 256)
    if "panoptic" in name:
        assert result["panoptic_seg"][0].shape == (item["height"], item["width"])
