"""The benchmark measures checking of labels without a fault, and of each checkout its own code."""

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


def test_measure_runs_the_code_of_each_checkout(
    tmp_path: Path, project_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(project_folder / "tools"))
    monkeypatch.chdir(project_folder)  # where people run it from, and python -m would look first
    module = importlib.import_module("benchmark_check")
    for name in ("one", "other"):
        package = tmp_path / name / "detr_d2"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")

    module.measure(tmp_path / "labels.json", True, {name: tmp_path / name for name in ("one", "other")}, 1)

    assert all((tmp_path / name / "detr_d2" / "ran").is_file() for name in ("one", "other"))
