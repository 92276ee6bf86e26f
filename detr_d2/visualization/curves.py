"""Losses, learning rate and panoptic quality of one or several runs, from Detectron2's ``metrics.json``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import write_whole
from detr_d2.visualization.figure_text import figure_text

logger = logging.getLogger(__name__)

#: Larger values aren't a training's: 32 bits hold up to 3.4e38. Nor are later iterations.
MAX_VALUE, MAX_ITERATION = 3e38, 10**12

#: Of each name the values by iteration, in order.
Series = dict[str, dict[int, float]]


@dataclass(frozen=True)
class Topic:
    """One column of the figure: its title, and for each metric the name shown and the colour."""

    title: str
    metrics: dict[str, tuple[str, str]]
    is_percentage: bool = False


TOPICS = (
    Topic("total loss", {"total_loss": ("total", "tab:blue")}),
    Topic(
        "box losses, last layer",
        {
            "loss_ce": ("class", "tab:blue"),
            "loss_bbox": ("L1", "tab:orange"),
            "loss_giou": ("GIoU", "tab:green"),
        },
    ),
    Topic("mask losses", {"loss_mask": ("focal", "tab:purple"), "loss_dice": ("dice", "tab:red")}),
    Topic("learning rate", {"lr": ("learning rate", "tab:gray")}),
    Topic(
        "panoptic quality (%)",
        {
            "panoptic_seg/PQ": ("All", "black"),
            "panoptic_seg/PQ_th": ("Things", "tab:orange"),
            "panoptic_seg/PQ_st": ("Stuff", "tab:cyan"),
        },
        is_percentage=True,
    ),
)


def metrics_file(path: str | Path) -> Path:
    """The ``metrics.json`` that a path stands for: its own, or that of an output folder."""
    return Path(path) / "metrics.json" if Path(path).is_dir() else Path(path)


def read_metrics(path: str | Path) -> Series:
    """Reads a ``metrics.json``: one JSON object a line, as Detectron2's ``JSONWriter`` appends them.

    Lines that are no such object (the last one of a run that was killed) and values that are no finite numbers of
    32 bits, which is what a training computes with, are left out. When a run was started again in the same folder, its
    values replace the older ones from there on.

    Args:
        path: the file, or the output folder it is in.

    Returns:
        Of each metric its values by iteration, in order of iterations.

    Raises:
        MissingFileError: there is no such file.
        DatasetError: the file holds no metrics.
    """
    file = metrics_file(path)
    if not file.is_file():
        raise MissingFileError(f"{file} isn't there; name an output folder of train_net.py, or its metrics.json.")
    series: Series = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        record = _parse(line)
        if record is not None:
            _add_(series, record)
    found = {name: values for name, values in series.items() if values}
    if not found:
        raise DatasetError(f"{file} holds no metrics; lines like {{'iteration': 19, 'total_loss': 7.1}} are expected.")
    return found


def draw_curves(runs: Mapping[str, str | Path], output: str | Path) -> Path:
    """Draws one row a run and one column a topic; topics that no run has values of are left out.

    Args:
        runs: for each name (such as "stage 1: boxes") its output folder or ``metrics.json``.
        output: the PNG to write.

    Returns:
        ``output``.

    Raises:
        MissingFileError, DatasetError: see :func:`read_metrics`.
    """
    series = {name: read_metrics(path) for name, path in runs.items()}
    found = {name: [_lines_of(topic, values) for topic in TOPICS] for name, values in series.items()}
    columns = [index for index in range(len(TOPICS)) if any(lines[index] for lines in found.values())]
    if not columns:
        raise DatasetError(f"none of {', '.join(str(path) for path in runs.values())} has losses, lr or PQ to draw.")
    figure = Figure(figsize=(3.6 * len(columns), 3.0 * len(found)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(found), len(columns), squeeze=False)
    for row, (name, lines) in enumerate(found.items()):
        last = max((iteration for topic in lines for values in topic.values() for iteration in values), default=0)
        for column, index in enumerate(columns):
            _draw_topic(axes[row, column], TOPICS[index], lines[index])
            axes[row, column].set_xlim(0, 1.02 * max(last, 1))
            axes[row, column].set_xlabel("iteration")
        axes[row, 0].set_ylabel(figure_text(name), fontsize=12, fontweight="bold")
    target = Path(output)
    return write_whole(target, lambda file: figure.savefig(file, format="png"))


def _parse(line: str) -> dict[str, float] | None:
    """The numbers of a line, or None if it is no JSON object with an iteration."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        if line.strip():
            logger.info("Left out a line of the metrics that isn't complete: %.60s", line)
        return None
    iteration = _number(record.get("iteration")) if isinstance(record, dict) else None
    if iteration is None or not 0 <= iteration <= MAX_ITERATION:
        return None
    numbers = {name: _number(value) for name, value in record.items()}
    return {name: value for name, value in numbers.items() if value is not None}


def _number(value: object) -> float | None:
    """A number that fits into 32 bits, what is too small for them being 0; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MAX_VALUE <= value <= MAX_VALUE:
        return None
    return value if abs(value) > 1 / MAX_VALUE else 0.0


def _add_(series: Series, record: Mapping[str, float]) -> None:
    """Adds a line. A metric that goes back in iterations tells of a restart: what was known from there on is void.

    Values so stand in order of iterations.
    """
    iteration = int(record["iteration"])
    names = [name for name in record if name != "iteration"]
    if any(iteration <= next(reversed(series.get(name) or {-1: 0.0})) for name in names):
        for values in series.values():
            for stale in [known for known in values if known >= iteration]:
                del values[stale]
    for name in names:
        series.setdefault(name, {})[iteration] = record[name]


def _lines_of(topic: Topic, series: Series) -> dict[str, dict[int, float]]:
    """Those of the topic's metrics that a run has; with several test sets, their names begin with the set's."""
    found = {}
    for name, values in series.items():
        for metric in topic.metrics:
            if name == metric:
                found[metric] = values
            elif "/" in metric and name.endswith(f"/{metric}"):
                found[f"{name.removesuffix(metric)}{metric}"] = values
    return found


def _draw_topic(axis: Axes, topic: Topic, lines: Mapping[str, Mapping[int, float]]) -> None:
    axis.set_title(topic.title, fontsize=11)
    axis.grid(alpha=0.3)
    if not lines:
        axis.text(0.5, 0.5, "none in this run", ha="center", va="center", color="gray", transform=axis.transAxes)
        axis.set_axis_off()
        return
    styles = ["-", "--", ":", "-."]
    prefixes = sorted({_prefix(name, topic) for name in lines})
    for name, values in sorted(lines.items(), key=lambda item: list(topic.metrics).index(_metric(item[0], topic))):
        shown, color = topic.metrics[_metric(name, topic)]
        prefix = _prefix(name, topic)
        label = f"{figure_text(f'{prefix}{shown}')}: {list(values.values())[-1]:.3g}"
        style = styles[prefixes.index(prefix) % len(styles)]
        marker = "o" if topic.is_percentage or len(values) == 1 else None
        axis.plot(list(values), list(values.values()), style, color=color, label=label, marker=marker, markersize=4)
    axis.set_ylim(0, 100 if topic.is_percentage else None)
    axis.ticklabel_format(axis="y", scilimits=(-2, 4))
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.legend(fontsize=9, title="last value", title_fontsize=8)


def _metric(name: str, topic: Topic) -> str:
    return next(metric for metric in topic.metrics if name == metric or name.endswith(f"/{metric}"))


def _prefix(name: str, topic: Topic) -> str:
    """The test set's name and a space, or nothing."""
    return name.removesuffix(_metric(name, topic)).replace("/", " ")
