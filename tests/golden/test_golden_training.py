"""Losses of three iterations, the names in ``metrics.json``, and the panoptic map of fixed weights, for both stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.golden.store import approximately, compare

from detectron2.config import CfgNode
from detectron2.modeling import build_model

STAGES: dict[str, list[object]] = {
    "boxes": ["MODEL.DETR.MASK_ON", False],
    "masks": ["MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", True],
    "joint": ["MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", False],
}
SHORT: list[object] = [
    *("SOLVER.MAX_ITER", 3, "SOLVER.CHECKPOINT_PERIOD", 3, "TEST.EVAL_PERIOD", 3, "DATALOADER.NUM_WORKERS", 0),
    *("SEED", 5, "TEST.BOOTSTRAP", 20, "TEST.SCENES", 0),
]
#: Names in metrics.json that say how fast it was.
TIMES = {"time", "data_time", "eta_seconds", "rank_data_time"}


@pytest.fixture
def trained(tiny_config: Callable[..., CfgNode], project_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Trains a stage for three iterations and evaluates; returns the output folder."""

    def train(stage: str) -> Path:
        file = tmp_path / "config.yaml"
        weights = tmp_path / "weights.pth"
        torch.manual_seed(7)
        cfg = tiny_config(*STAGES[stage], *SHORT)
        cfg.MODEL.WEIGHTS = str(weights)
        model = build_model(cfg)
        torch.save({"model": dict(model.state_dict().items())}, weights)
        file.write_text(cfg.dump())
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(project_folder / "train_net.py"), "--config-file", str(file)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(project_folder), "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return tmp_path / "output"

    return train


@pytest.mark.parametrize("stage", STAGES)
def test_losses_and_names_of_metrics(stage: str, trained: Callable[[str], Path]) -> None:
    lines = [json.loads(line) for line in (trained(stage) / "metrics.json").read_text().splitlines()]

    compare("training_names", stage, sorted({name for line in lines for name in line} - TIMES))
    losses = {name: value for line in lines for name, value in line.items() if "loss" in name or "unweighted" in name}
    approximately("training_losses", stage, losses, 1e-4)


@pytest.mark.parametrize("stage", ["boxes", "masks"])
def test_results_of_fixed_weights(stage: str, tiny_config: Callable[..., CfgNode]) -> None:
    torch.manual_seed(7)
    cfg = tiny_config(*STAGES[stage], "MODEL.DETR.SCORE_THRESHOLD", 0.08, "MODEL.DETR.MIN_SEGMENT_AREA", 1)
    model = build_model(cfg).eval()
    torch.nn.init.normal_(model.detr.class_embed.weight, std=1.5)  # or all queries would be of one class
    generator = np.random.default_rng(3)

    for number, (height, width) in enumerate([(96, 128), (130, 97)]):
        image = torch.from_numpy(generator.integers(0, 256, (3, height, width)).astype(np.float32))
        with torch.no_grad():
            (result,) = model([{"image": image, "height": height * 2, "width": width * 2}])
        instances = result["instances"]
        numbers: dict[str, Any] = {
            "boxes": instances.pred_boxes.tensor.tolist(),
            "scores": instances.scores.tolist(),
            "classes": instances.pred_classes.tolist(),
        }
        if stage == "masks":
            ids, segments = result["panoptic_seg"]
            numbers["segments"] = [{key: float(value) for key, value in one.items()} for one in segments]
            numbers["mask areas"] = instances.pred_masks.sum((1, 2)).tolist()
            numbers["map"] = np.asarray(ids)[::8, ::8].tolist()
        approximately("results", f"{stage} {number}", numbers, 1e-4)
