"""The benchmark of learning: what it makes of courses and points, and a run of a tiny model from end to end."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from detr_d2.errors import UserError

from detectron2.config import CfgNode


@pytest.fixture
def tool(project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_folder / "tools"))
    return importlib.import_module("benchmark_learning")


def test_every_course_comes_with_every_variant(tool: ModuleType) -> None:
    found = list(tool.courses_of(["a/x.yaml+a/y.yaml", "b/z.yaml"], ["without: A.B 0 C.D (1,2)"]))

    assert [course.name for course in found] == ["a/x + a/y", "a/x + a/y, without", "b/z", "b/z, without"]
    assert found[1].configs == ("a/x.yaml", "a/y.yaml") and found[1].changes == ("A.B", "0", "C.D", "(1,2)")


@pytest.mark.parametrize("variant", ["A.B 0", "name:", "name: A.B"])
def test_variants_without_name_or_values_are_refused(tool: ModuleType, variant: str) -> None:
    with pytest.raises(UserError, match="colon"):
        list(tool.courses_of(["a.yaml"], [variant]))


def test_time_to_a_quality_lies_between_two_evaluations(tool: ModuleType) -> None:
    points = [tool.Point(60.0 * i, i, {tool.PQ: pq}) for i, pq in ((1, 60.0), (2, 70.0), (3, 90.0))]

    assert tool.minutes_to(points, 80.0) == pytest.approx(2.5)
    assert tool.minutes_to(points, 50.0) == pytest.approx(1.0)
    assert tool.minutes_to(points, 95.0) is None


def test_seeds_that_never_reach_the_quality_are_counted(tool: ModuleType) -> None:
    low, high = ([tool.Point(60.0, 8, {tool.PQ: pq, tool.BOX_AP: 10.0})] for pq in (50.0, 90.0))

    row = tool.summary("name", [low, high], 80.0)

    assert row["minutes to PQ 80"] == "1.0 (1 of 2)" and row["PQ"] == "70.0 ± 28.3" and row["mask loss"] == "–"


def test_a_schedule_is_stretched_with_its_steps(tool: ModuleType, tiny_config: Callable[..., CfgNode]) -> None:
    cfg = tiny_config("SOLVER.MAX_ITER", 100, "SOLVER.STEPS", (50, 80))

    tool.stretch_(cfg, 10)

    assert cfg.SOLVER.MAX_ITER == 10 and tuple(cfg.SOLVER.STEPS) == (5, 8)


def test_two_stages_of_a_tiny_model_give_points_table_and_plot(
    tool: ModuleType, tiny_config: Callable[..., CfgNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, keys in (("boxes", ()), ("masks", ("MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", True))):
        cfg = tiny_config("DATALOADER.NUM_WORKERS", 0, *keys)
        (tmp_path / f"{name}.yaml").write_text(cfg.dump())
    document = tmp_path / "learning.md"
    document.write_text("<!-- benchmark_learning -->\n<!-- end of benchmark_learning -->\n")
    course = f"{tmp_path / 'boxes.yaml'}+{tmp_path / 'masks.yaml'}"
    files = ("--output", tmp_path / "runs", "--json", tmp_path / "a.json", "--plot", tmp_path / "a.png")
    options = ("--short", "--evaluations", "2", "--threads", "1", "--write", document, *files)
    monkeypatch.setattr(sys, "argv", ["benchmark_learning.py", course, *map(str, options)])

    assert tool.main() == 0

    ((points,),) = json.loads((tmp_path / "a.json").read_text()).values()
    batch = cfg.SOLVER.IMS_PER_BATCH
    assert [point["images"] for point in points] == [2 * batch, 4 * batch, 6 * batch, 8 * batch]
    assert all(a["seconds"] < b["seconds"] for a, b in itertools.pairwise(points))
    assert ["panoptic_seg/PQ" in point["results"] for point in points] == [False, False, True, True]
    assert "| training" in document.read_text() and (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("peer", ["transformers' DETR", "transformers' Mask2Former"])
def test_peers_learn_from_the_same_data(
    tool: ModuleType, peer: str, tiny_config: Callable[..., CfgNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="transformers isn't installed")
    cfg = tiny_config("DATALOADER.NUM_WORKERS", 0, "MODEL.DETR.MASK_ON", True)
    (tmp_path / "masks.yaml").write_text(cfg.dump())
    monkeypatch.setattr(importlib.import_module("benchmarking.peer_training"), "TRIED", 2)
    options = ["OUTPUT_DIR", str(tmp_path / "peer"), "SEED", "3"]

    points = tool.learn_peer(peer, str(tmp_path / "masks.yaml"), options, 1.0, 2, 1, 1e-4)

    assert [point.images % cfg.SOLVER.IMS_PER_BATCH for point in points] == [0, 0]
    assert 0 < points[0].images < points[1].images and points[0].seconds < points[1].seconds
    assert all(0 <= point.results[tool.PQ] <= 100 for point in points)


def test_earlier_figures_are_in_the_same_table(tool: ModuleType, tmp_path: Path) -> None:
    runs = {"x": [[{"seconds": 60.0, "images": 8, "results": {tool.PQ: 50.0}}]]}
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(runs))

    found = tool.earlier_runs([f"{tmp_path}/a.json", f"{tmp_path}/b.json", f"{tmp_path}/b.json:200 scenes"])

    assert {name: len(seeds) for name, seeds in found.items()} == {"x": 2, "x, 200 scenes": 1}
    assert tool.summary("x", found["x"], 80.0)["seeds"] == 2
    with pytest.raises(UserError, match="no file"):
        tool.earlier_runs([f"{tmp_path}/absent.json"])
