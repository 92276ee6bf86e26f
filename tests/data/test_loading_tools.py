"""The tools around loading: they compare equal targets, and deliver what they measured or drew."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from detectron2.config import CfgNode


@pytest.fixture
def tool(project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(project_folder / "tools"))
    return importlib.import_module


def test_short_benchmark_compares_all_ways(
    tool: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = tool("benchmark_loader")
    figures = tmp_path / "loader.json"
    monkeypatch.setattr(sys, "argv", ["benchmark_loader", "--short", "--repeats", "1", "--json", str(figures)])

    assert benchmark.main() == 0

    rows = json.loads(figures.read_text())["rows"]
    assert len(rows) == 3 and all(row["loop"] > 0 and row["detr_d2"] > 0 for row in rows)


def test_differing_targets_stop_the_benchmark(tool: Callable[[str], ModuleType]) -> None:
    benchmark, loading = tool("benchmark_loader"), tool("benchmarking.loading")
    masks = np.ones((1, 2, 2), bool)
    targets = [loading.Targets(masks, np.zeros((1, 4)), np.array([area])) for area in (4, 5)]

    with pytest.raises(RuntimeError, match="areas differ"):
        benchmark.require_equal(targets)


def test_real_records_are_those_of_their_json(tool: Callable[[str], ModuleType], shared_data: Path) -> None:
    loading = tool("benchmarking.loading")
    records = loading.real_records(shared_data / "coco128_panoptic" / "val")[:4]

    for record in records:
        areas = [segment["area"] for segment in record["segments_info"] if not segment["iscrowd"]]
        for targets in (loading.straightforward(record), loading.all_at_once(record), loading.ours(record)):
            assert targets.areas.tolist() == areas


def test_strides_are_compared_with_whole_masks(
    tool: Callable[[str], ModuleType],
    tiny_config: Callable[..., CfgNode],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure = tool("measure_mask_stride")
    config, figures = tmp_path / "config.yaml", tmp_path / "stride.json"
    config.write_text(tiny_config("MODEL.DETR.MASK_ON", True).dump())
    words = ["measure_mask_stride", "--config-file", str(config), "--images", "2", "--json", str(figures)]
    monkeypatch.setattr(sys, "argv", words)

    assert measure.main() == 0

    rows = json.loads(figures.read_text())["rows"]
    assert [row["stride"] for row in rows] == [1, 2, 4, 8]
    assert rows[0]["cosine of gradients"] == pytest.approx(1) and rows[0]["loss_dice, difference in %"] == 0
    assert rows[2]["ground-truth masks, KiB"] == pytest.approx(rows[0]["ground-truth masks, KiB"] / 16)


def test_drawn_augmentations_are_rows_of_images(
    tool: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = tool("draw_augmentations")
    monkeypatch.setattr(sys, "argv", ["draw_augmentations", "--out", str(tmp_path), "--columns", "2"])

    assert draw.main() == 0

    widths = {path.name: Image.open(path).width for path in tmp_path.iterdir()}
    assert widths == dict.fromkeys(
        ("ricap.png", "copy_paste.png", "lsj.png", "color_jitter.png"), 2 * draw.PANEL + draw.GAP
    )
