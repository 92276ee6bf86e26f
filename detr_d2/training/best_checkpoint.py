"""``model_best.pth``: the weights of the best evaluation so far."""

from __future__ import annotations

import logging
import os

from torch import nn

from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.training.evaluation_log import EvaluationLog
from detr_d2.training.metric import Metric, progress_of

from detectron2.engine import hooks

logger = logging.getLogger(__name__)

NAME = "model_best"


class BestCheckpoint(hooks.BestCheckpointer):
    """Detectron2's ``BestCheckpointer``, which also knows what a run was worth before it was resumed.

    Args:
        eval_period: that of the ``EvalHook``.
        model: whose weights are kept.
        folder: the run's output folder.
        metric: what decides.
        log: the run's evaluations.
    """

    def __init__(self, eval_period: int, model: nn.Module, folder: str, metric: Metric, log: EvaluationLog) -> None:
        super().__init__(eval_period, _WeightsOnly(model, folder), metric.name, metric.mode, NAME)
        self._folder, self._metric, self._log = folder, metric, log

    def before_train(self) -> None:
        """Without it, the first evaluation of a resumed run would replace a better model."""
        self.best_metric = self.best_iter = None
        if os.path.isfile(os.path.join(self._folder, f"{NAME}.pth")):
            progress = progress_of(self._log.evaluations, self._metric)
            self.best_metric, self.best_iter = progress.best, progress.iteration
        if self.best_metric is not None:
            logger.info(
                "%s.pth is of iteration %s, %s %.5g.", NAME, self.best_iter, self._metric.name, self.best_metric
            )


class _WeightsOnly(DetrCheckpointer):
    """Saves weights without the training's state, a third of the size; ``--resume`` never starts from such a file."""

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Not the last checkpoint: a run goes on from where it stopped, not from where it was best."""
