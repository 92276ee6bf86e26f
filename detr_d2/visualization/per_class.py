"""Panoptic quality of each class, as bars, from the evaluator's ``panoptic_quality.json``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import write_whole
from detr_d2.visualization.label_layout import figure_text
from detr_d2.wording import counted

_COLORS = {"Things": "tab:orange", "Stuff": "tab:cyan"}
_INCHES_A_ROW = 0.26
_CHARACTERS_A_LINE = 105


def draw_per_class(quality_json: str | Path, output: str | Path) -> Path:
    """Draws a bar for each class that is in the images or was predicted: things, then stuff, the best first.

    Classes that are neither have no quality, which isn't the same as one of 0: they are named below the bars.

    Args:
        quality_json: what ``DetrPanopticEvaluator`` wrote, or the folder it is in.
        output: the PNG to write.

    Returns:
        ``output``.

    Raises:
        MissingFileError: there is no such file.
        DatasetError: it isn't the evaluator's.
    """
    path = Path(quality_json)
    path = path / "panoptic_quality.json" if path.is_dir() else path
    content = _read(path)
    groups = {"Things": _best_first(content, True), "Stuff": _best_first(content, False)}
    absent = [entry["name"] for entry in content["classes"] if entry["PQ"] is None]
    note = textwrap.wrap(
        f"Neither in these images nor predicted: {', '.join(map(figure_text, absent))}", _CHARACTERS_A_LINE
    )
    rows = sum(len(entries) for entries in groups.values())
    figure = Figure(figsize=(9, 1.6 + _INCHES_A_ROW * (rows + len(note) * bool(absent))), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    _draw_bars(axis, groups)
    means = "   ".join(_mean(name, content.get(name)) for name in ("All", "Things", "Stuff"))
    axis.set_title(
        f"{figure_text(content['dataset'])}, {counted(content['images'], 'image')}\nPQ   {means}", fontsize=12
    )
    if absent:
        figure.supxlabel("\n".join(note), fontsize=9, color="dimgray", x=0.02, ha="left")
    return write_whole(Path(output), lambda file: figure.savefig(file, format="png"))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError(
            f"{path} isn't there; name the folder that train_net.py --eval-only wrote its results to."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for entry in content["classes"]:
            _ = entry["name"], entry["is_thing"], entry["PQ"], entry["true_positives"] + entry["false_negatives"]
        _ = content["dataset"], content["images"]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} isn't a panoptic_quality.json of this project: {error!r}. Evaluate anew."
        ) from error
    return dict(content)


def _best_first(content: Mapping[str, Any], is_thing: bool) -> list[Mapping[str, Any]]:
    entries = [entry for entry in content["classes"] if entry["is_thing"] == is_thing and entry["PQ"] is not None]
    return sorted(entries, key=lambda entry: -entry["PQ"])


def _draw_bars(axis: Axes, groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    labels: list[str] = []
    for name, entries in groups.items():
        places = range(len(labels), len(labels) + len(entries))
        values = [entry["PQ"] for entry in entries]
        bars = axis.barh(places, values, color=_COLORS[name], label=name, height=0.75)
        axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
        labels += [
            f"{figure_text(entry['name'])} ({entry['true_positives'] + entry['false_negatives']})" for entry in entries
        ]
    axis.set_yticks(range(len(labels)), labels, fontsize=10)
    axis.set_ylim(max(len(labels), 1) - 0.4, -0.6)
    axis.set_xlim(0, 108)
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel("PQ in percent; in brackets: true segments")
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    if labels:
        axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=10)


def _mean(name: str, group: Mapping[str, Any] | None) -> str:
    """A group's mean over its classes, or a dash where it has none."""
    value = None if group is None else group.get("PQ")
    return f"{name} {value:.1f}" if value is not None else f"{name} –"
