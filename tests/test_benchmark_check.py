"""The benchmark's made labels have nothing wrong in them, so that it measures checking and no listing."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from detr_d2.cli import main


def test_made_labels_have_no_errors(tmp_path: Path, project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(project_folder / "tools"))
    labels = importlib.import_module("benchmark_check").make_labels(tmp_path, 100)

    code = main(["check", str(labels), "--images", str(tmp_path / "images"), "--workers", "1"])

    assert code == 0
    assert len(json.loads(labels.read_text())["annotations"]) == 100
