"""Training ends when evaluations have stopped getting better."""

from __future__ import annotations

import logging
from typing import Any

from detr_d2.training.evaluation_log import AfterEvaluation, EvaluationLog
from detr_d2.training.metric import Metric, progress_of

from detectron2.utils import comm

logger = logging.getLogger(__name__)


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

    def evaluated(self, is_last: bool) -> None:
        """
        Raises:
            EarlyStop: there was no progress for long enough.
        """
        if is_last:
            return
        # The main process alone knows the results, and all have to stop at once.
        if comm.all_gather(self._is_over())[0]:
            trainer: Any = self.trainer
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
