"""What the measurement of the ranking stands on: its scenes, its choices and its table."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from detr_d2.errors import ConfigError


@pytest.fixture
def tool(project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_folder / "tools"))
    return importlib.import_module("measure_ranking")


def run(seed: int, choice: str, quality: float) -> dict[str, object]:
    groups = {"PQ": quality, "Things": quality, "Stuff": quality, "rare things": quality}
    return {"seed": seed, "pool": "single scenes", "choice": choice, "rare scenes": 3, **groups}


def test_rare_things_are_rare_in_what_is_ranked(tool: ModuleType) -> None:
    rare = set(tool.RARE)

    thinned = [bool(rare & set(scene.names)) for _, scene in tool.thinned(seed=0, count=40)]
    plain = [bool(rare & set(scene.names)) for _, scene in tool.plain_scenes(40)]

    assert 2 * sum(thinned) < sum(plain)


def test_of_each_place_the_first_photo_is_taken(tool: ModuleType) -> None:
    names = ["series_place3_1", "series_000004", "series_place3_0", "series_place1_7", "series_000009"]

    assert list(tool.one_of_each(names)) == ["series_place3_1", "series_000004", "series_place1_7", "series_000009"]


def test_gains_are_of_the_same_seed(tool: ModuleType, tmp_path: Path) -> None:
    results = tool.Results(tmp_path / "results.json", tool.SHORT)
    for seed, base in ((0, 10.0), (1, 50.0)):
        results.add(run(seed, tool.RANDOM, base))
        results.add(run(seed, tool.RANKED, base + 2))

    assert results.table()[1]["gain in PQ"] == "2.0 ± 0.0"


def test_results_go_on_in_their_file_and_never_in_that_of_another_study(tool: ModuleType, tmp_path: Path) -> None:
    tool.Results(tmp_path / "results.json", tool.SHORT).add(run(0, tool.RANDOM, 1.0))

    assert tool.Results(tmp_path / "results.json", tool.SHORT).has(seed=0, choice=tool.RANDOM)
    with pytest.raises(ConfigError, match="another study"):
        tool.Results(tmp_path / "results.json", tool.Study())
