"""Short trainings of a very small model in this process, cut off and resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_d2.data import register_from_config
from tests.modules import load_module
from tests.training.cutting import Cut, PowerCut

from detectron2.config import CfgNode

SIX_ITERATIONS: list[object] = [
    *("SOLVER.MAX_ITER", 6, "SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EVAL_PERIOD", 2, "TEST.SCENES", 0, "SEED", 3),
    *("MODEL.DETR.DROPOUT", 0.1, "TEST.BOOTSTRAP", 10, "SOLVER.STEPS", (4,), "INPUT.COLOR_JITTER.ENABLED", True),
    *("DATALOADER.NUM_WORKERS", 0),
]


@pytest.fixture(scope="session")
def real_trainer(project_folder: Path) -> Any:
    """The Trainer of train_net.py."""
    return load_module(project_folder / "train_net.py").Trainer


@pytest.fixture
def train(real_trainer: Any, tiny_config: Callable[..., CfgNode], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Trains six iterations in a folder, perhaps cut off some times and resumed; returns the last checkpoint."""

    def run(name: str, *overrides: object, cuts: Sequence[Cut] = ()) -> dict[str, Any]:
        cfg = tiny_config("OUTPUT_DIR", str(tmp_path / name), *SIX_ITERATIONS, *overrides)
        register_from_config(cfg)
        if cfg.MODEL.DETR.FREEZE_DETECTOR:
            cfg.MODEL.WEIGHTS = str(_weights(real_trainer, cfg, tmp_path))
        torch.manual_seed(0)  # what the first weights are made of
        for cut in cuts:
            trainer = _trainer(real_trainer, cfg)
            trainer.register_hooks([cut])
            trainer._hooks.insert(0, trainer._hooks.pop())
            with pytest.raises((PowerCut, KeyboardInterrupt)):
                trainer.train()
            torch.seed()  # a process that goes on has other chance
        _trainer(real_trainer, cfg).train()
        content: dict[str, Any] = torch.load(tmp_path / name / "model_final.pth", weights_only=True)
        return content

    return run


def _trainer(cls: Any, cfg: CfgNode) -> Any:
    """One that goes on in the folder of the config."""
    trainer = cls(cfg)
    trainer.resume_or_load(resume=True)
    return trainer


def _weights(cls: Any, cfg: CfgNode, folder: Path) -> Path:
    path = folder / "first.pth"
    if not path.exists():
        torch.save({"model": dict(cls.build_model(cfg).state_dict())}, path)
    return path
