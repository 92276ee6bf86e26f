"""``detr-d2 plot``: runs in one image, or on one page: a table, and charts whose values can be read off."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from detr_d2.errors import ConfigError
from detr_d2.files import check_outputs, write_whole
from detr_d2.pages import write_page
from detr_d2.training.plot.runs import Line, Panel, Run, panels_of, read_runs
from detr_d2.visualization.label_layout import figure_text

EPILOG = """\
examples:
  detr-d2 plot output/detr_panoptic_R50
  detr-d2 plot runs/quickstart/stage1 runs/quickstart/stage2 --out curves.html
  detr-d2 plot plain=runs/a "with RICAP=runs/b" --out curves.png --smooth 10

A run is an output folder of train_net.py, or its metrics.json; NAME=PATH gives it a name. It may still be going on.
Drawn is what there is: losses of training and validation, PQ, AP, class and cardinality error, learning rate.
"""

_TEMPLATE = Path(__file__).parent / "templates" / "plot.html"
COLORS = tuple(to_hex(color) for color in colormaps["tab10"].colors)  # type: ignore[attr-defined]
#: Panels beside one another in an image.
_COLUMNS = 4
#: Size of a chart's inner part, in pixels.
_WIDTH, _HEIGHT = 330, 190
#: Numbers of the table whose best value and its iteration are shown, with what is best.
_SUMMARIES = (
    ("PQ", "panoptic_seg/PQ", max),
    ("box AP", "bbox/AP", max),
    ("validation loss", "validation/total_loss", min),
)


def write_runs_page(runs: Sequence[Run], output: str | Path, smooth: float = 0.0) -> Path:
    """Writes a page that stands alone: runs can be switched off, and a pointer over a chart reads its values.

    Args:
        runs: at least one.
        output: the HTML file to write.
        smooth: see ``panels_of``.

    Returns:
        ``output``.

    Raises:
        DatasetError: no run has anything that a panel shows.
    """
    last = max(run.iterations for run in runs)
    panels = panels_of(runs, smooth)
    return write_page(
        output,
        _TEMPLATE,
        title="Training runs" if len(runs) > 1 else f"Training run {runs[0].name}",
        runs=[_row(number, run) for number, run in enumerate(runs)],
        summaries=[name for name, metric, _ in _SUMMARIES if any(run.find(metric) for run in runs)],
        charts=[_chart(panel, last) for panel in panels],
        size=(_WIDTH, _HEIGHT),
        last=last,
    )


def _row(number: int, run: Run) -> dict[str, Any]:
    """A run's line in the table."""
    best = {}
    for name, metric, better in _SUMMARIES:
        found = [(value, iteration) for values in run.find(metric).values() for iteration, value in values.items()]
        if found:
            value, iteration = better(found, key=lambda pair: pair[0])
            best[name] = {"value": value, "iteration": iteration}
    return {
        "name": run.name,
        "color": run_color(number),
        "iterations": run.iterations,
        "loss": _last(run.series.get("total_loss", {})),
        "seconds": float(np.median(list(run.series["time"].values()))) if "time" in run.series else None,
        "best": best,
    }


def _last(values: Mapping[int, float]) -> float | None:
    return list(values.values())[-1] if values else None


def _chart(panel: Panel, last: int) -> dict[str, Any]:
    """A panel in the chart's own pixels, its origin at the upper left."""
    low, high = panel.limits()
    ticks = [float(tick) for tick in MaxNLocator(nbins=4).tick_values(low, high)]
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def x_of(iteration: float) -> float:
        return round(_WIDTH * iteration / max(last, 1), 1)

    def y_of(value: float) -> float:
        return round(_HEIGHT * (high - value) / (high - low), 1)

    iteration_ticks = [int(tick) for tick in MaxNLocator(nbins=4, integer=True).tick_values(0, last) if tick <= last]
    return {
        "title": panel.title,
        "ticks": [(y_of(tick), f"{tick:.4g}") for tick in ticks],
        "iteration_ticks": [(x_of(tick), f"{tick:,}".replace(",", "\u2009")) for tick in iteration_ticks],
        "lines": [_chart_line(line, x_of, y_of) for line in panel.lines],
    }


def _chart_line(line: Line, x_of: Any, y_of: Any) -> dict[str, Any]:
    points = [(x_of(iteration), y_of(value)) for iteration, value in zip(line.iterations, line.values, strict=True)]
    upper = [(x_of(iteration), y_of(high)) for iteration, _, high in line.interval]
    lower = [(x_of(iteration), y_of(low)) for iteration, low, _ in line.interval]
    return {
        "band": upper + lower[::-1],
        "run": line.run,
        "label": line.label,
        "color": run_color(line.run),
        "is_evaluation": line.is_evaluation,
        "points": points,
        "iterations": [round(iteration) for iteration in line.iterations],
        "values": [float(f"{value:.5g}") for value in line.values],
    }


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


#: What writes a file of an ending.
WRITERS = {".png": draw_runs, ".html": write_runs_page}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = "Draw losses, panoptic quality and learning rate of one or several runs."
    parser.epilog = EPILOG
    parser.add_argument("runs", nargs="+", metavar="RUN", help="an output folder or a metrics.json, or NAME=either")
    parser.add_argument(
        "--out", type=Path, default=Path("curves.png"), metavar="FILE", help=".png or .html (default: %(default)s)"
    )
    parser.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="N",
        help="draw training's curves as exponential means over about N of their points (default: as they are)",
    )


def run(args: argparse.Namespace) -> int:
    """Reads the runs and writes the image or the page.

    Raises:
        ConfigError: the file is to be neither PNG nor HTML, a negative ``--smooth``, or two runs of one name.
        MissingFileError, DatasetError: a run has no metrics.
    """
    write = WRITERS.get(args.out.suffix.lower())
    if write is None:
        raise ConfigError(f"--out {args.out} ends in {args.out.suffix!r}; allowed are {' and '.join(WRITERS)}.")
    if not 0 <= args.smooth < float("inf"):
        raise ConfigError(f"--smooth is {args.smooth}; allowed are numbers from 0 on.")
    runs = read_runs(args.runs)
    check_outputs({"--out": args.out}, [run.path for run in runs if run.path is not None])
    write(runs, args.out, args.smooth)
    print(f"{args.out} shows {len(args.runs)} {'run' if len(args.runs) == 1 else 'runs'}.")
    return 0
