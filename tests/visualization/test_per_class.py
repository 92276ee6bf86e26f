"""Bars of the quality of each class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.visualization import (
    draw_per_class,
)


def quality_file(folder: Path) -> Path:
    def entry(name: str, is_thing: bool, quality: float | None) -> dict[str, Any]:
        counts = {"true_positives": 3, "false_positives": 1, "false_negatives": 2} if quality is not None else {}
        none = dict.fromkeys(("true_positives", "false_positives", "false_negatives"), 0)
        return (
            {"id": 1, "name": name, "is_thing": is_thing, "PQ": quality, "SQ": quality, "RQ": quality} | none | counts
        )

    classes = [entry("brick", True, 40.0), entry("pipe", True, None), entry("sky", False, 0.0)]
    content = {"dataset": "yard_val", "images": 8, "All": {"PQ": 20.0}, "Stuff": {"PQ": 0.0}, "classes": classes}
    (folder / "panoptic_quality.json").write_text(json.dumps(content))
    return folder / "panoptic_quality.json"


def test_per_class_bars_are_drawn_from_the_evaluators_file_or_its_folder(tmp_path: Path) -> None:
    quality_file(tmp_path)

    output = draw_per_class(tmp_path, tmp_path / "images" / "classes.png")

    assert Image.open(output).width > 800


def test_per_class_bars_name_absent_classes_below_and_give_them_no_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr(Figure, "supxlabel", lambda figure, text, **options: texts.append(text))
    monkeypatch.setattr(Axes, "set_yticks", lambda axis, places, labels, **options: texts.extend(labels))

    draw_per_class(quality_file(tmp_path), tmp_path / "classes.png")

    assert texts == ["brick (5)", "sky (5)", "Neither in these images nor predicted: pipe"]


def test_per_class_bars_refuse_other_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"panoptic_quality\.json isn't there"):
        draw_per_class(tmp_path, tmp_path / "classes.png")
    (tmp_path / "other.json").write_text('{"classes": [{}]}')
    with pytest.raises(DatasetError, match=r"other\.json isn't a panoptic_quality\.json"):
        draw_per_class(tmp_path / "other.json", tmp_path / "classes.png")
    assert not (tmp_path / "classes.png").exists()
