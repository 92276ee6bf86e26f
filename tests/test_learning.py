"""The parts learn together: a tiny model memorises a few yard scenes, things and stuff, boxes and masks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from detr_d2 import load_config
from detr_d2.data import DetrPanopticDatasetMapper, register
from detr_d2.evaluation import DetrPanopticEvaluator
from detr_d2.solver import build_optimizer
from detr_d2.yard import write_yard

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler

NAME = "memorised_yard"
ITERATIONS = 300
#: A ResNet-18 and two small layers, on images as they are.
TINY: list[object] = [
    *("MODEL.DEVICE", "cpu", "MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.RESNETS.NORM", "BN"),
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
    *("MODEL.DETR.HIDDEN_DIM", 128, "MODEL.DETR.NHEADS", 8, "MODEL.DETR.DIM_FEEDFORWARD", 256),
    *("MODEL.DETR.ENC_LAYERS", 1, "MODEL.DETR.DEC_LAYERS", 2, "MODEL.DETR.NUM_QUERIES", 25),
    *("MODEL.DETR.DROPOUT", 0.0, "MODEL.DETR.PRE_NORM", True, "MODEL.DETR.ATTENTION_GAIN", 100.0),
    *("MODEL.DETR.MASK_ON", True, "MODEL.DETR.SCORE_THRESHOLD", 0.5),
    *("INPUT.MIN_SIZE_TRAIN", (96,), "INPUT.MIN_SIZE_TEST", 96, "INPUT.RANDOM_FLIP", "none"),
    *("INPUT.DETR_CROP.ENABLED", False, "DATASETS.TRAIN", (NAME,), "DATASETS.TEST", (NAME,)),
    *("SOLVER.BASE_LR", 0.001, "SOLVER.BACKBONE_MULTIPLIER", 1.0, "SOLVER.MAX_ITER", ITERATIONS),
    *("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.WARMUP_ITERS", 20, "SOLVER.WARMUP_FACTOR", 0.01),
]


def register_scenes(folder: Path) -> None:
    """Four small scenes."""
    yard = write_yard(folder / "yard", train=4, val=1, width=128, height=96, seed=26)
    register(NAME, images=yard / "images", panoptic_json=yard / "panoptic_train.json", panoptic_root=yard / "panoptic")


def train(cfg: CfgNode) -> nn.Module:
    """All scenes in every batch; joint training of boxes and masks, from scratch."""
    torch.manual_seed(0)
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    mapper = DetrPanopticDatasetMapper(cfg, is_train=True)
    batch = [mapper(record) for record in DatasetCatalog.get(NAME)]
    for _ in range(cfg.SOLVER.MAX_ITER):
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()
        scheduler.step()
    return model.eval()


def test_tiny_model_memorises_four_scenes(project_folder: Path, tmp_path: Path) -> None:
    register_scenes(tmp_path)
    cfg = load_config(str(project_folder / "configs" / "Base-DETR.yaml"), list(map(str, TINY)))
    model, mapper = train(cfg), DetrPanopticDatasetMapper(cfg, is_train=False)

    evaluator = DetrPanopticEvaluator(NAME)
    with torch.no_grad():
        for record in DatasetCatalog.get(NAME):
            evaluator.process([record], model([mapper(record)]))
    results = evaluator.evaluate()

    assert results is not None and results["panoptic_seg"]["PQ"] > 80, results
