"""Figures of benchmarks are figures on slow and busy machines, too."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


def test_rate_of_a_slow_machine_is_not_zero(project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(project_folder / "tools"))
    benchmark = importlib.import_module("benchmark_prepare")

    row = benchmark._row("all of it", count=2, wall=120.0, processor=0.004)

    assert row["images/s"] == pytest.approx(2 / 120, rel=0.01)
    assert row["processor ms/image"] == pytest.approx(2.0)
    assert benchmark.significant(1234.56) == 1230
