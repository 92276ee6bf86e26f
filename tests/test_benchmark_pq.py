"""The benchmark of panoptic quality compares equal numbers, and says so where they aren't."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def benchmark(project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("panopticapi.evaluation")
    monkeypatch.syspath_prepend(str(project_folder / "tools"))
    return importlib.import_module("benchmark_pq")


def test_pairs_are_of_the_size_asked_for_and_partly_right(benchmark: ModuleType) -> None:
    pairs = benchmark.make_pairs(3, 240, 320, 15)

    for true_map, true_segments, predicted_map, predicted_segments in pairs:
        assert true_map.shape == predicted_map.shape == (240, 320) and len(true_segments) == 15
        assert {s["id"] for s in predicted_segments} == set(np.unique(predicted_map).tolist())


def test_colours_are_the_ids(benchmark: ModuleType, tmp_path: Path) -> None:
    from detr_d2.data import read_panoptic_png

    ids = np.array([[0, 1, 256], [65536, 256**3 - 1, 70000]], dtype=np.int32)
    benchmark.save_png(ids, tmp_path / "ids.png")

    np.testing.assert_array_equal(read_panoptic_png(str(tmp_path / "ids.png")), ids)


def test_short_benchmark_delivers_ratios_growth_and_a_plot(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, plot = tmp_path / "pq.json", tmp_path / "new" / "pq.png"
    words = ["benchmark_pq", "--short", "--repeats", "1", "--json", str(figures), "--plot", str(plot)]
    monkeypatch.setattr(sys, "argv", words)

    assert benchmark.main() == 0

    content = json.loads(figures.read_text())
    assert [row["kind"] for row in content["rows"]] == [
        benchmark.FIRST,
        benchmark.AGAIN,
        benchmark.FILES,
        benchmark.COLORS,
        benchmark.IDS,
    ]
    assert [row["command"] for row in content["commands"]] == ["detr_d2: detr-d2 pq", "panopticapi"]
    assert all(row["processor, s"] > 0 and 5 < row["MiB"] < 300 for row in content["commands"])
    assert {row["varied"] for row in content["growth"]} == {"images", "segments"}
    assert "× ours" in capsys.readouterr().out and plot.read_bytes()[:4] == b"\x89PNG"


def test_other_numbers_stop_the_benchmark(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "by_panopticapi", lambda *_arguments, **_options: [0.0, 0.0, 0.0, 0])

    with pytest.raises(RuntimeError, match="PQ, SQ, RQ, N are"):
        benchmark.compare(benchmark.make_pairs(1, 30, 40, 5), 1)
