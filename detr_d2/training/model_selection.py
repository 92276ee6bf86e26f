"""Which number of an evaluation says that a model is better; the best checkpoint and early stopping, which go by it."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from detr_d2.config import check_values
from detr_d2.data import dataset_metadata
from detr_d2.training.averaging import PREFIX, AveragedWeights, WeightsOnly
from detr_d2.training.evaluation_log import AfterEvaluation, EvaluationLog, in_iteration_before

from detectron2.config import CfgNode
from detectron2.engine import hooks
from detectron2.utils import comm

logger = logging.getLogger(__name__)

MODES = ("max", "min")
#: Of the best checkpoint's file, ``model_best.pth``.
NAME = "model_best"


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

    "auto" is PQ where the model gives panoptic maps and the first dataset of ``DATASETS.TEST`` has their ground
    truth, else box AP, else the validation loss. With several datasets their names come first, as in
    ``metrics.json``. The mode "auto" is "min" for the terms of the validation loss, else "max".

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


class BestCheckpoint(hooks.BestCheckpointer):
    """Detectron2's ``BestCheckpointer``, which also knows what a run was worth before it was resumed.

    Averaged weights are a second candidate in each evaluation.

    Args:
        eval_period: that of the ``EvalHook``.
        model: whose weights are kept.
        folder: the run's output folder.
        metric: what decides.
        log: the run's evaluations.
        average: of the weights; None: there is none.
    """

    def __init__(
        self,
        eval_period: int,
        model: nn.Module,
        folder: str,
        metric: Metric,
        log: EvaluationLog,
        average: AveragedWeights | None = None,
    ) -> None:
        super().__init__(eval_period, WeightsOnly(model, folder), metric.name, metric.mode, NAME)
        self._folder, self._metric, self._log = folder, metric, log
        self._averaged: hooks.BestCheckpointer | None = None
        if average is not None:
            saving = _Averaged(average, model, folder)
            self._averaged = hooks.BestCheckpointer(eval_period, saving, _of_average(metric).name, metric.mode, NAME)

    def before_train(self) -> None:
        """Without it, the first evaluation of a resumed run would replace a better model."""
        self.best_metric = self.best_iter = None
        self._log.read()
        if os.path.isfile(os.path.join(self._folder, f"{NAME}.pth")):
            for metric in (self._metric, *([_of_average(self._metric)] if self._averaged else [])):
                progress = progress_of(self._log.evaluations, metric)
                if progress.best is not None and metric.is_better(progress.best, self.best_metric):
                    self.best_metric, self.best_iter = progress.best, progress.iteration
        if self.best_metric is not None:
            logger.info(
                "%s.pth is of iteration %s, %s %.5g.", NAME, self.best_iter, self._metric.name, self.best_metric
            )

    def after_step(self) -> None:
        """The weights, then their average where that is better still."""
        super().after_step()
        self._compare_average(hooks.BestCheckpointer.after_step)

    def after_train(self) -> None:
        """As after a step, of the last evaluation."""
        super().after_train()
        self._compare_average(hooks.BestCheckpointer.after_train)

    def _compare_average(self, look: Callable[[hooks.BestCheckpointer], None]) -> None:
        """Lets the averaged weights' own hook look at the results; what is best is known to both."""
        if self._averaged is None:
            return
        self._averaged.trainer = self.trainer
        self._averaged.best_metric, self._averaged.best_iter = self.best_metric, self.best_iter
        look(self._averaged)
        self.best_metric, self.best_iter = self._averaged.best_metric, self._averaged.best_iter


class _Averaged(WeightsOnly):
    """Saves the averaged weights in the place of the model's."""

    def __init__(self, average: AveragedWeights, model: nn.Module, folder: str) -> None:
        super().__init__(model, folder)
        self._average = average

    def save(self, name: str, **kwargs: Any) -> None:
        """As ever, of other weights."""
        with self._average.applied():
            super().save(name, **kwargs)


def _of_average(metric: Metric) -> Metric:
    return Metric(f"{PREFIX}/{metric.name}", metric.mode)


class EarlyStop(BaseException):
    """Leaves Detectron2's training loop, which has no other way out; no error, and so not an ``Exception``."""


class EarlyStopping(AfterEvaluation):
    """Saves ``model_final`` and raises :class:`EarlyStop` in all processes once an evaluation shows no more progress.

    That evaluation is the run's final one. ``--resume`` goes on from there; it stops again at the next evaluation that
    brings nothing, unless the patience was raised.

    Args:
        eval_period: that of the ``EvalHook``.
        metric: what has to get better.
        patience: how many evaluations in a row may pass without progress; at least 1.
        min_delta: a smaller gain is no progress.
        log: the run's evaluations; None in processes that aren't the main one.
    """

    def __init__(
        self, eval_period: int, metric: Metric, patience: int, min_delta: float, log: EvaluationLog | None
    ) -> None:
        super().__init__(eval_period)
        self._metric, self._patience, self._min_delta, self._log = metric, patience, min_delta, log
        self._has_stopped = self._had_stopped = False

    def state_dict(self) -> dict[str, Any]:
        return {"stopped": True} if self._has_stopped else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._had_stopped = bool(state_dict["stopped"])

    def before_train(self) -> None:
        """Stops a run that was cut off when it was about to; one that had stopped, and is resumed, goes on.

        Raises:
            EarlyStop: there was no progress for long enough.
        """
        trainer: Any = self.trainer
        is_over = (
            self._log is not None
            and not self._had_stopped
            and bool(self._log.evaluations)
            and self._log.evaluations[-1]["iteration"] == trainer.start_iter - 1
            and self._is_over()
        )
        if comm.all_gather(is_over)[0]:
            with in_iteration_before(trainer):
                self._stop()

    def evaluated(self, is_last: bool) -> None:
        """
        Raises:
            EarlyStop: there was no progress for long enough.
        """
        if is_last:
            return
        # The main process alone knows the results, and all have to stop at once.
        if comm.all_gather(self._is_over())[0]:
            self._stop()

    def _stop(self) -> None:
        trainer: Any = self.trainer
        self._has_stopped = True
        trainer.checkpointer.save("model_final", iteration=trainer.iter)
        raise EarlyStop

    def _is_over(self) -> bool:
        if self._log is None:
            return False
        if self._metric.name not in self._log.evaluations[-1]:
            logger.warning(
                "TEST.EARLY_STOPPING.METRIC is %r, which this evaluation lacks, so that nothing stops. It has %s.",
                self._metric.name,
                ", ".join(name for name in self._log.evaluations[-1] if "/" in name and "-" not in name),
            )
            return False
        progress = progress_of(self._log.evaluations, self._metric, self._min_delta)
        if progress.without < self._patience:
            return False
        logger.info(
            "Training stops at iteration %d: %s hasn't got better in %d evaluations (TEST.EARLY_STOPPING.PATIENCE is "
            "%d); its best is %s at iteration %s. --resume with a larger PATIENCE goes on from here.",
            self.trainer.iter,
            self._metric.name,
            progress.without,
            self._patience,
            "none" if progress.best is None else f"{progress.best:.5g}",
            progress.iteration,
        )
        return True
