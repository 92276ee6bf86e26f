"""What a config adds to Detectron2's training: hooks; and what is checked before it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from detr_d2.check.report import check_before_training
from detr_d2.checkpoint import model_categories
from detr_d2.checkpoint.paths import find_model_weights, is_address, last_checkpoint
from detr_d2.config import check_architecture, check_device, check_model, check_schedule, check_values
from detr_d2.data.train_loader import build_train_mapper
from detr_d2.errors import ConfigError
from detr_d2.training.averaging import AveragedWeights
from detr_d2.training.evaluation_log import EvaluationLog, MissedEvaluation
from detr_d2.training.model_selection import BestCheckpoint, EarlyStopping, Metric, chosen_metric
from detr_d2.training.output_folder import check_output_folder

from detectron2.config import CfgNode
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class _Metrics(NamedTuple):
    """What decides on the best checkpoint, and on when to stop; None: nothing does."""

    best: Metric | None
    stopping: Metric | None


def check_training(cfg: CfgNode) -> _Metrics:
    """Refuses keys of ``INPUT``, ``TEST.BEST_CHECKPOINT`` and ``TEST.EARLY_STOPPING`` that make no sense.

    Returns:
        The metrics that the two are about.

    Raises:
        ConfigError: naming what is wrong.
    """
    check_values(cfg, "TEST.", "INPUT.")
    build_train_mapper(cfg, [])  # reads nothing, and refuses keys that don't go together
    best = chosen_metric(cfg, cfg.TEST.BEST_CHECKPOINT, "TEST.BEST_CHECKPOINT")
    keys, period = cfg.TEST.EARLY_STOPPING, cfg.TEST.EVAL_PERIOD
    stopping = chosen_metric(cfg, keys, "TEST.EARLY_STOPPING")
    if keys.PATIENCE and (period <= 0 or stopping is None):
        raise ConfigError(
            f"TEST.EARLY_STOPPING.PATIENCE is {keys.PATIENCE}, but nothing would ever stop the training: "
            f"TEST.EVAL_PERIOD is {period}, DATASETS.TEST {cfg.DATASETS.TEST}, TEST.EARLY_STOPPING.METRIC "
            f"{keys.METRIC!r}. Set all three, or PATIENCE 0."
        )
    if keys.PATIENCE and period * (keys.PATIENCE + 1) >= cfg.SOLVER.MAX_ITER:
        logger.warning(
            "TEST.EARLY_STOPPING can't act: it needs %d evaluations, one every %d iterations, and SOLVER.MAX_ITER %d "
            "has ended the training by then.",
            *(keys.PATIENCE + 1, period, cfg.SOLVER.MAX_ITER),
        )
    return _Metrics(best if period > 0 else None, stopping if keys.PATIENCE else None)


def add_training_hooks(
    built: Sequence[HookBase | None], cfg: CfgNode, model: nn.Module, average: AveragedWeights | None = None
) -> list[HookBase | None]:
    """Detectron2's hooks, and behind its evaluation those that ``cfg.TEST`` asks for.

    Args:
        built: what ``DefaultTrainer.build_hooks`` returned.
        cfg: ``TEST.BEST_CHECKPOINT`` and ``TEST.EARLY_STOPPING`` are looked at.
        model: the trainer's.
        average: of its weights, which comes before all that looks at them; None: there is none.

    Raises:
        ConfigError: see :func:`check_training`.
    """
    metrics, found = check_training(cfg), [*([average] if average else []), *built]
    if not cfg.DATASETS.TEST:
        return found
    period, stopping = cfg.TEST.EVAL_PERIOD, cfg.TEST.EARLY_STOPPING
    added: list[HookBase] = []
    log = EvaluationLog(period, cfg.OUTPUT_DIR) if comm.is_main_process() else None
    if log is not None:
        # The best checkpoint before the line: an evaluation without its line is made up for, with all that follows.
        if metrics.best is not None:
            added.append(BestCheckpoint(period, model, cfg.OUTPUT_DIR, metrics.best, log, average))
        added.append(log)
    if metrics.stopping is not None:
        added.append(EarlyStopping(period, metrics.stopping, stopping.PATIENCE, stopping.MIN_DELTA, log))
    evaluation = [hook for hook in found if isinstance(hook, hooks.EvalHook)]
    added.append(MissedEvaluation(period, log, [*evaluation, *added]))
    # The writers come last: they write what the others have found.
    place = next((i for i, hook in enumerate(found) if isinstance(hook, hooks.PeriodicWriter)), len(found))
    return found[:place] + added + found[place:]


def before_evaluation(built: Sequence[HookBase | None], added: HookBase) -> list[HookBase | None]:
    """The same hooks, with another one before the first that evaluates."""
    place = next((i for i, hook in enumerate(built) if isinstance(hook, hooks.EvalHook)), len(built))
    return [*built[:place], added, *built[place:]]


def storing_finite_results(
    built: Sequence[HookBase | None], period: int, evaluate: Callable[[], dict[str, Any]]
) -> list[HookBase | None]:
    """The same hooks, but Detectron2's evaluation puts only finite results into the storage.

    What there is nothing to judge of is NaN, and ``metrics.json`` would have NaN in it, which isn't JSON.

    Args:
        built: what ``DefaultTrainer.build_hooks`` returned.
        period: ``TEST.EVAL_PERIOD``.
        evaluate: evaluates the model, and returns nested results.
    """
    finite = hooks.EvalHook(period, lambda: finite_results(evaluate()))
    return [finite if type(hook) is hooks.EvalHook else hook for hook in built]


def finite_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """Nested results without numbers that are NaN or infinite."""
    found = {name: finite_results(value) if isinstance(value, Mapping) else value for name, value in results.items()}
    return {name: value for name, value in found.items() if isinstance(value, dict) or math.isfinite(value)}


def check_before_start(cfg: CfgNode, eval_only: bool, resume: bool) -> list[str]:
    """Refuses a config that can't be trained or evaluated on this machine, with these files.

    Args:
        cfg: the whole config.
        eval_only: nothing is to be trained.
        resume: the last checkpoint in ``OUTPUT_DIR`` is to be used, if there is one.

    Returns:
        Lines for the log, of the main process.

    Raises:
        ConfigError: keys that make no sense, or aren't possible here.
        DatasetError, MissingFileError, WeightsError: the data or the weights named can't be used.
    """
    if eval_only and not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty, so there is nothing to evaluate; name a dataset.")
    check_device(cfg)
    check_output_folder(cfg.OUTPUT_DIR)
    check_architecture(cfg)
    _check_weights(cfg, resume)
    categories = model_categories(cfg)
    check_model(cfg, len(categories))
    check_training(cfg)
    if eval_only:
        return []
    check_schedule(cfg, comm.get_world_size())
    return check_before_training(cfg) if comm.is_main_process() else []


def _check_weights(cfg: CfgNode, resume: bool) -> None:
    """What has to be fetched is fetched later, when all else is known to be right."""
    if resume and last_checkpoint(cfg.OUTPUT_DIR):
        return
    if not is_address(cfg.MODEL.WEIGHTS):
        find_model_weights(cfg.MODEL.WEIGHTS, cfg.MODEL.DETR.FREEZE_DETECTOR)
