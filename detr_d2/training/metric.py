"""Which number of an evaluation says that a model is better, and how long it hasn't been."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from detr_d2.config import check_values
from detr_d2.data import dataset_metadata

from detectron2.config import CfgNode

MODES = ("max", "min")


@dataclass(frozen=True)
class Metric:
    """A number of an evaluation, by the name it has in ``metrics.json``.

    Args:
        name: such as "panoptic_seg/PQ".
        mode: whether the "max" or the "min" is best.
    """

    name: str
    mode: str

    def is_better(self, value: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Whether ``value`` is finite and better than ``best`` by more than ``min_delta``; None is worse than all."""
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        return value - best > min_delta if self.mode == "max" else best - value > min_delta


@dataclass(frozen=True)
class Progress:
    """How a metric did over several evaluations.

    Args:
        best: its best value; None before the first finite one.
        iteration: of that evaluation.
        without: how many evaluations have come since.
    """

    best: float | None = None
    iteration: int | None = None
    without: int = 0


def progress_of(evaluations: Iterable[Mapping[str, Any]], metric: Metric, min_delta: float = 0.0) -> Progress:
    """What evaluations, in their order, say of a metric.

    Args:
        evaluations: "iteration" and the results by name; those without the metric aren't counted.
        metric: the number to look at.
        min_delta: a smaller gain is none.
    """
    progress = Progress()
    for evaluation in evaluations:
        if metric.name not in evaluation:
            continue
        value = evaluation[metric.name]
        if value is not None and metric.is_better(value, progress.best, min_delta):
            progress = Progress(value, evaluation["iteration"])
        else:
            progress = Progress(progress.best, progress.iteration, progress.without + 1)
    return progress


def chosen_metric(cfg: CfgNode, options: CfgNode, key: str) -> Metric | None:
    """The metric that ``options.METRIC`` and ``options.MODE`` name; None for an empty name.

    "auto" is PQ where the model gives panoptic maps and the first dataset of ``DATASETS.TEST`` has their truth, else
    box AP, else the validation loss. With several datasets their names come first, as in ``metrics.json``. The mode
    "auto" is "min" for the terms of the validation loss, else "max".

    Args:
        cfg: the whole config.
        options: ``cfg.TEST.BEST_CHECKPOINT`` or ``cfg.TEST.EARLY_STOPPING``.
        key: its name, for messages.

    Raises:
        ConfigError: a value of these keys isn't allowed.
    """
    check_values(cfg, key)
    name = options.METRIC
    if not name or not cfg.DATASETS.TEST:
        return None
    if name == "auto":
        prefix = f"{cfg.DATASETS.TEST[0]}/" if len(cfg.DATASETS.TEST) > 1 else ""
        name = prefix + _main_number(cfg)
    is_loss = "validation" in name.split("/")
    return Metric(name, options.MODE if options.MODE != "auto" else MODES[is_loss])


def _main_number(cfg: CfgNode) -> str:
    """The number that evaluation is about, for a config's model and its first test set."""
    metadata, detr = dataset_metadata(cfg.DATASETS.TEST[0]), cfg.MODEL.DETR
    if detr.MASK_ON and detr.PANOPTIC_ON and metadata.get("panoptic_json"):
        return "panoptic_seg/PQ"
    if detr.INSTANCE_ON and metadata.thing_dataset_id_to_contiguous_id:
        return "bbox/AP"
    return "validation/total_loss"
