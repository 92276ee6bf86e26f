"""The benchmark of prepare makes an export that is read, and prints images a second."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from detr_d2.errors import MissingFileError
from detr_d2.labels.readers import read_exports


@pytest.fixture
def benchmark(project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_folder / "tools"))
    return importlib.import_module("benchmark_prepare")


def test_made_exports_have_things_that_do_not_overlap(benchmark: ModuleType, tmp_path: Path) -> None:
    benchmark.make_export(tmp_path / "cvat" / "made", 2, (60, 80), 3)

    (export,) = read_exports([tmp_path / "cvat"], "cvat")

    labels = [image.labels if isinstance(image.labels, tuple) else image.labels() for image in export.images]
    assert [len(of_image) for of_image in labels] == [3, 3]


def test_short_benchmark_delivers_images_a_second(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "prepare.json"
    monkeypatch.setattr(sys, "argv", ["x", "--short", "--repeats", "1", "--workers", "1", "--json", str(figures)])

    assert benchmark.main() == 0

    (row,) = json.loads(figures.read_text())["rows"]
    assert row["images/s"] > 0 and "detr-d2 prepare" in capsys.readouterr().out


def test_a_reference_that_is_not_there_is_named(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--short", "--reference", str(tmp_path / "nowhere")])

    with pytest.raises(MissingFileError, match="nowhere/converters"):
        benchmark.main()
