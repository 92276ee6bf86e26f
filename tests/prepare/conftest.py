"""Datasets prepared of exports that were never files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detr_d2.labels.records import Export
from detr_d2.prepare.options import PrepareOptions
from detr_d2.prepare.pipeline import prepare
from detr_d2.prepare.stuff import build_policy


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Prepares exports: ``made(export, stuff="misc", overlap="last", …)``; the dataset's folder."""

    def make(*exports: Export, stuff: str = "misc", out: str = "site", **options: Any) -> Path:
        chosen = PrepareOptions(out=tmp_path / out, **options)
        return prepare(list(exports), build_policy([stuff]), chosen).folder

    return make
