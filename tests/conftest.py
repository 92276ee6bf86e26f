"""What every test needs: detr_d2 imported before any detectron2, one thread, no windows, and real data if there is."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

import detr_d2  # noqa: F401  chooses the detectron2 that the tests run on

PROJECT_FOLDER = Path(__file__).resolve().parent.parent
SHARED_DATA = PROJECT_FOLDER.parent / "shared" / "data"

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


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
