"""What every test needs: detr_d2 imported before any detectron2, one thread, no windows, and real data if there is."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # tables are as wide as without a terminal, whoever runs the tests

import pytest
import torch

import detr_d2  # chooses the detectron2 that the tests run on

from detectron2.config import CfgNode

PROJECT_FOLDER = Path(__file__).resolve().parent.parent
SHARED_DATA = PROJECT_FOLDER.parent / "shared" / "data"

TINY_MODEL: list[object] = [
    *("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.RES5_DILATION", 2, "MODEL.DETR.PRE_NORM", False),
    *("MODEL.DETR.SCORE_THRESHOLD", 0.85, "MODEL.DETR.MEMORY_FEATURE", "res5"),
    *("MODEL.DETR.DENOISING_GROUPS", 0, "MODEL.DETR.DENSE_LOSSES", False, "MODEL.DETR.MASK_ID_WEIGHT", 0.0),
    *("MODEL.DETR.MASK_POINTS", 0),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 8, "MODEL.RESNETS.WIDTH_PER_GROUP", 4),
    *("MODEL.DETR.HIDDEN_DIM", 32, "MODEL.DETR.NHEADS", 4, "MODEL.DETR.DIM_FEEDFORWARD", 32),
    *("MODEL.DETR.ENC_LAYERS", 1, "MODEL.DETR.DEC_LAYERS", 2, "MODEL.DETR.NUM_QUERIES", 12),
    *("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR", 0.0005, "SOLVER.GAMMA", 0.1, "SOLVER.STEPS", ()),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.WARMUP_ITERS", 1),
]

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def project_folder() -> Path:
    """The checkout: the folder of setup.py and configs/."""
    return PROJECT_FOLDER


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets beside the checkout; tests that ask for it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data: {SHARED_DATA} isn't a folder")
    return SHARED_DATA


@pytest.fixture(scope="session")
def yard_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated dataset of a few scenes, as ``detr-d2 yard`` writes it: the datasets yard_train and yard_val."""
    from detr_d2.yard import write_yard

    folder = tmp_path_factory.mktemp("data") / "yard"
    write_yard(folder, train=6, val=3, width=160, height=128, seed=0)
    return folder


@pytest.fixture
def tiny_config(yard_folder: Path, tmp_path: Path) -> Callable[..., CfgNode]:
    """Makes the config of a very small model on the yard: ``tiny_config("KEY", value, …)``; boxes only by default."""

    def make(*overrides: object) -> CfgNode:
        cfg = detr_d2.load_config(str(PROJECT_FOLDER / "configs" / "quickstart" / "detr_yard.yaml"))
        cfg.DATASETS.REGISTER = [str(yard_folder / "register.yaml")]
        cfg.OUTPUT_DIR = str(tmp_path / "output")
        cfg.merge_from_list(TINY_MODEL)
        cfg.merge_from_list(list(overrides))
        return cfg

    return make


@pytest.fixture(autouse=True)
def _fresh_loggers() -> Iterator[None]:
    """A command that sets up logging must not swallow what later tests look for, nor write to a closed stream."""
    yield
    for name in ("detr_d2", "detectron2", "fvcore"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
