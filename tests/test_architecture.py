"""The figure of the rooms is drawn from the code and the layers that make lint holds."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


def test_figure_has_every_layer_and_what_is_imported(
    project_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(project_folder / "tools"))
    drawing = importlib.import_module("draw_architecture")

    layers = drawing.layers(project_folder / "pyproject.toml")
    rooms = [room for layer in layers for room in layer]
    arrows = drawing.imports(project_folder / "detr_d2", rooms)

    assert "cli" in layers[0] and layers[-1] == ["errors"] and {"check", "prepare"} <= set(layers[1])
    assert arrows["check", "labels"] > 1 and ("labels", "check") not in arrows
    assert drawing.main(["--output", str(tmp_path / "rooms.png")]) == 0
    assert (tmp_path / "rooms.png").read_bytes().startswith(b"\x89PNG")
