"""What Detectron2's ``metrics.json`` holds: losses, learning rate, results of evaluations."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from detr_d2.errors import DatasetError, MissingFileError

logger = logging.getLogger(__name__)

#: Larger values aren't a training's: 32 bits hold up to 3.4e38. Nor are later iterations.
MAX_VALUE, MAX_ITERATION = 3e38, 10**12

#: Of each name the values by iteration, in order.
Series = dict[str, dict[int, float]]


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
