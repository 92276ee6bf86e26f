"""Runs in one image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from detr_d2.files import write_whole
from detr_d2.training.plot.runs import Panel, Run, panels_of
from detr_d2.visualization.figure_text import figure_text

COLORS = tuple(to_hex(color) for color in colormaps["tab10"].colors)  # type: ignore[attr-defined]
_COLUMNS = 4


def run_color(number: int) -> str:
    """The colour of a run's lines, as #rrggbb."""
    return COLORS[number % len(COLORS)]


def draw_runs(runs: Sequence[Run], output: str | Path, smooth: float = 0.0) -> Path:
    """Draws a panel for every number that some run has: training's lines solid, evaluations dashed with dots
    and, where they are known, 95 % intervals as bands.

    Args:
        runs: at least one.
        output: the PNG to write.
        smooth: see ``panels_of``.

    Returns:
        ``output``.

    Raises:
        DatasetError: no run has anything that a panel shows.
    """
    panels = panels_of(runs, smooth)
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(max(3.6 * columns, 7), 2.7 * rows + 0.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    last = max(run.iterations for run in runs)
    for axis, panel in zip(axes, panels, strict=False):
        _draw_panel(axis, panel, last)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    keys = [Line2D([], [], color=run_color(number), label=figure_text(run.name)) for number, run in enumerate(runs)]
    keys += [Line2D([], [], color="gray", label="training")]
    keys += [Line2D([], [], color="gray", ls="--", marker="o", ms=4, label="evaluation")]
    figure.legend(handles=keys, loc="outside upper left", ncols=6, frameon=False, fontsize=10)
    return write_whole(Path(output), lambda file: figure.savefig(file, format="png"))


def _draw_panel(axis: Axes, panel: Panel, last: int) -> None:
    for line in panel.lines:
        style: dict[str, Any] = {"ls": "--", "marker": "o", "ms": 3.5} if line.is_evaluation else {"ls": "-", "lw": 1.3}
        axis.plot(line.iterations, line.values, color=run_color(line.run), **style)
        if line.interval:
            iterations, lower, upper = (list(column) for column in zip(*line.interval, strict=True))
            axis.fill_between(iterations, lower, upper, color=run_color(line.run), alpha=0.12, lw=0)
        if len(line.values) == 1:
            axis.plot(line.iterations, line.values, "o", color=run_color(line.run), ms=5)
    low, high = panel.limits()
    axis.set_title(panel.title, fontsize=11)
    axis.set_ylim(low - (0.03 if low else 0) * (high - low), high + 0.06 * (high - low))
    axis.set_xlim(0, 1.02 * max(last, 1))
    axis.ticklabel_format(axis="y", scilimits=(-3, 4))
    axis.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axis.tick_params(labelsize=9)
    axis.grid(alpha=0.3)
