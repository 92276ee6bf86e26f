"""Runs, read from Detectron2's ``metrics.json``, as what there is to draw: panels with a line for each run."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detr_d2.errors import ConfigError, DatasetError, MissingFileError
from detr_d2.files import real_path

logger = logging.getLogger(__name__)

#: Larger values aren't a training's: 32 bits hold up to 3.4e38. Nor are later iterations.
MAX_VALUE, MAX_ITERATION = 3e38, 10**12

#: Of each name the values by iteration, in order.
Series = dict[str, dict[int, float]]
#: A line has no more points than this: more are averaged, neighbours together.
MAX_POINTS = 400
#: A range of values isn't stretched by what a run's first losses were, up to this part of its points.
_START = 0.05


@dataclass(frozen=True)
class Run:
    """A training.

    Args:
        name: shown for it.
        series: of each metric its values by iteration, see ``read_metrics``.
        path: of the file that they come from, if they do.
    """

    name: str
    series: Mapping[str, Mapping[int, float]]
    path: Path | None = None

    @property
    def iterations(self) -> int:
        """The last iteration that anything is known of."""
        return max(max(values) for values in self.series.values())

    def find(self, metric: str) -> dict[str, Mapping[int, float]]:
        """The metric's values by dataset; with a single test set, metrics don't name it, and the key is empty."""
        ending = f"/{metric}"
        return {
            name.removesuffix(metric).rstrip("/"): values
            for name, values in self.series.items()
            if name == metric or ("/" in metric and name.endswith(ending))
        }


@dataclass(frozen=True)
class Topic:
    """A panel's title and the metrics that it shows: of the training, of the evaluations, and of their intervals."""

    title: str
    training: str = ""
    evaluation: str = ""
    is_quality: bool = False
    interval: str = ""


TOPICS = (
    Topic("total loss", "total_loss", "validation/total_loss"),
    Topic("PQ", evaluation="panoptic_seg/PQ", is_quality=True, interval="panoptic_interval/PQ"),
    Topic("PQ of things", evaluation="panoptic_seg/PQ_th", is_quality=True, interval="panoptic_interval/PQ_th"),
    Topic("PQ of stuff", evaluation="panoptic_seg/PQ_st", is_quality=True, interval="panoptic_interval/PQ_st"),
    Topic("box AP", evaluation="bbox/AP", is_quality=True),
    Topic("mask AP", evaluation="segm/AP", is_quality=True),
    Topic("class error, %", "class_error", "validation/class_error"),
    Topic("cardinality error", "cardinality_error", "validation/cardinality_error"),
    Topic("class loss", "loss_ce", "validation/ce"),
    Topic("L1 loss of boxes", "loss_bbox", "validation/bbox"),
    Topic("GIoU loss of boxes", "loss_giou", "validation/giou"),
    Topic("focal loss of masks", "loss_mask", "validation/mask"),
    Topic("dice loss of masks", "loss_dice", "validation/dice"),
    Topic("cross entropy of mask ids", "loss_maskid", "validation/maskid"),
    Topic("learning rate", "lr"),
)


@dataclass(frozen=True)
class Line:
    """One run's values in a panel.

    Args:
        run: its number.
        label: the run's name, and what tells its lines apart.
        is_evaluation: of the evaluations; else of the training's iterations.
        iterations: in order.
        values: as many.
        interval: iterations, lower and upper ends of 95 % intervals, where they are known.
    """

    run: int
    label: str
    is_evaluation: bool
    iterations: list[float]
    values: list[float]
    interval: list[tuple[float, float, float]] = field(default_factory=list)


@dataclass
class Panel:
    """What is drawn under one title."""

    title: str
    is_quality: bool
    lines: list[Line] = field(default_factory=list)

    def limits(self) -> tuple[float, float]:
        """The range of values to show; a run's first losses may lie above it."""
        shown = [value for line in self.lines for value in line.values[math.ceil(_START * len(line.values)) :]]
        shown = shown or [value for line in self.lines for value in line.values]
        shown += [end for line in self.lines for _, *ends in line.interval for end in ends]
        low, high = min(shown), max(shown)
        low = 0.0 if self.is_quality or 0 <= low < 0.5 * high else low
        least = 1e-6 * max(abs(low), abs(high))  # no ticks fit into less
        return (low, high) if high - low > least else (low - least - 0.5, high + least + 0.5)


def read_runs(paths: Sequence[str]) -> list[Run]:
    """Reads runs; each is an output folder or a ``metrics.json``, alone or as NAME=PATH.

    Without a name a run is called as the last parts of its path that tell it from the others.

    Raises:
        MissingFileError, DatasetError: see ``read_metrics``.
        ConfigError: two runs have one name, or one path is there twice.
    """
    named: list[tuple[str, Path]] = []
    for path in paths:
        name, equals, rest = path.partition("=")
        named.append((name, Path(rest)) if equals and not os.path.exists(path) else ("", Path(path)))
    folders = [real_path(path).parent if path.suffix == ".json" else real_path(path) for _, path in named]
    names = [name or _short_name(folders, number) for number, (name, _) in enumerate(named)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(f"Several runs are called {', '.join(doubled)}; name each only once, as NAME=PATH.")
    files = [metrics_file(path) for _, path in named]
    return [Run(name, read_metrics(file), file) for name, file in zip(names, files, strict=True)]


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
        below = [str(found.parent) for found in sorted(file.parent.glob("*/metrics.json"))[:3]]
        hint = f", such as {' or '.join(below)}" if below and Path(path).is_dir() else ""
        raise MissingFileError(f"{file} isn't there; name an output folder of train_net.py, or its metrics.json{hint}.")
    series: Series = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        record = _parse(line)
        if record is not None:
            _add_(series, record)
    found = {name: values for name, values in series.items() if values}
    if not found:
        raise DatasetError(f"{file} holds no metrics; lines like {{'iteration': 19, 'total_loss': 7.1}} are expected.")
    return found


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


def panels_of(runs: Sequence[Run], smooth: float = 0.0) -> list[Panel]:
    """The panels for which some run has values, in the order of ``TOPICS``.

    Args:
        runs: at least one.
        smooth: training's lines are exponential means over about so many written values, as DETR's ``plot_logs``
            draws them (its ``ewm_col``); 0: as they are.

    Raises:
        DatasetError: there is none.
    """
    panels = [Panel(topic.title, topic.is_quality) for topic in TOPICS]
    for topic, panel in zip(TOPICS, panels, strict=True):
        for number, run in enumerate(runs):
            for metric, is_evaluation in ((topic.training, False), (topic.evaluation, True)):
                for dataset, values in run.find(metric).items() if metric else ():
                    suffix = " ".join(filter(None, [dataset, "validation" if is_evaluation and topic.training else ""]))
                    label = f"{run.name}, {suffix}" if suffix else run.name
                    points = _thinned(list(values), _smoothed(list(values.values()), 0 if is_evaluation else smooth))
                    ends = _interval(run, topic.interval, dataset)
                    panel.lines.append(Line(number, label, is_evaluation, *points, ends))
    found = [panel for panel in panels if panel.lines]
    if not found:
        names = sorted({name for run in runs for name in run.series})
        raise DatasetError(
            f"{', '.join(run.name for run in runs)}: nothing that is known can be drawn ({', '.join(names[:5])}). Name "
            "runs of a training or an evaluation; drawn are losses, PQ, AP and the learning rate."
        )
    return found


def _interval(run: Run, metric: str, dataset: str) -> list[tuple[float, float, float]]:
    """Iterations with both ends of a metric's interval on a dataset."""
    low, high = (run.find(f"{metric}{end}").get(dataset, {}) if metric else {} for end in ("_low", "_high"))
    return [(iteration, low[iteration], high[iteration]) for iteration in low if iteration in high]


def _short_name(folders: Sequence[Path], number: int) -> str:
    """The fewest last parts of a path that no other path ends with."""
    parts = folders[number].parts
    for count in range(1, len(parts) + 1):
        name = parts[-count:]
        if sum(folder.parts[-count:] == name for folder in folders) == 1:
            return "/".join(name)
    return str(folders[number])


def _smoothed(values: list[float], smooth: float) -> list[float]:
    """An exponential mean with the centre of mass ``smooth``, whose weights add up to 1 from the first value on."""
    keep, total, weight, result = smooth / (1 + smooth), 0.0, 0.0, []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        result.append(total / weight)
    return result


def _thinned(iterations: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most ``MAX_POINTS`` points: means over equal parts."""
    step = math.ceil(len(values) / MAX_POINTS)
    if step <= 1:
        return list(iterations), list(values)
    starts = range(0, len(values), step)
    parts = [(iterations[start : start + step], values[start : start + step]) for start in starts]
    return [sum(some) / len(some) for some, _ in parts], [sum(some) / len(some) for _, some in parts]
