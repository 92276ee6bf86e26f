"""The sums in docs/scale.md are those that the tool makes of the measured rates."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def plan_cluster(project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_folder / "tools"))
    return importlib.import_module("plan_cluster")


def test_the_plan_in_the_docs_is_what_the_tool_says(
    plan_cluster: ModuleType,
    project_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["plan_cluster.py"])

    plan_cluster.main()

    document = (project_folder / "docs" / "scale.md").read_text(encoding="utf-8")
    assert f"<!-- plan_cluster -->\n{capsys.readouterr().out.rstrip()}\n<!-- end of plan_cluster -->" in document


def test_twice_the_photos_take_twice_the_hours_and_money(plan_cluster: ModuleType) -> None:
    once, twice = (plan_cluster.plan(images, 10, 64, 2.0) for images in (10**7, 2 * 10**7))

    for one, other in zip(once, twice, strict=True):
        assert other["machine hours"] == pytest.approx(2 * one["machine hours"], abs=0.11)
        assert other["money, $"] == pytest.approx(2 * one["money, $"], abs=1.1)
