"""A small evaluation that was made up, and its report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from detr_d2.data.categories import Category
from detr_d2.evaluation.report import write_run_report

sys.path.insert(0, str(Path(__file__).parent))
import made_runs

NAMES = ["pipe", "<b>brick</b>", "crane", "sand & lime", "wall", "never seen"]


@pytest.fixture(scope="session")
def categories() -> list[Category]:
    colors = [(230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180)]
    return [Category(10 + i, name, i < 3, color) for i, (name, color) in enumerate(zip(NAMES, colors))]


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, categories: list[Category]) -> Path:
    """Twelve images, with mistakes of every kind; no segment of the last class."""
    folder = tmp_path_factory.mktemp("run")
    images = made_runs.made_images(folder / "data", 12, categories[:-1])
    return made_runs.write_run(folder / "inference" / "made_val", images, categories)


@pytest.fixture(scope="session")
def page(run_folder: Path) -> Path:
    return write_run_report(run_folder, images=4, resamples=100)


@pytest.fixture(scope="session")
def content(page: Path) -> dict[str, Any]:
    """``report.json`` of the page."""
    return dict(json.loads(page.with_name("report.json").read_text(encoding="utf-8")))
