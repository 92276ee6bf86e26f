"""An independently written subset of Detectron2's API; not Detectron2. Hooks that most trainings have."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import fvcore.common.checkpoint as fvcore_checkpoint
from fvcore.nn.precise_bn import update_bn_stats
from torch import nn
from torch.optim import Optimizer

from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter

from .train_loop import HookBase

logger = logging.getLogger(__name__)
__all__ = [
    "BestCheckpointer",
    "CallbackHook",
    "EvalHook",
    "HookBase",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
]


class CallbackHook(HookBase):
    """A hook of functions ``before_train``, ``after_train``, ``before_step``, ``after_step`` of the trainer."""

    def __init__(self, **functions: Callable[[Any], None] | None) -> None:
        for moment, function in functions.items():
            if not hasattr(HookBase, moment):
                raise TypeError(f"CallbackHook has no moment '{moment}'.")
            if function is not None:
                setattr(self, moment, lambda function=function: function(self.trainer))


class IterationTimer(HookBase):
    """Puts each iteration's seconds as "time" and logs the whole; the first ``warmup_iter`` aren't counted."""

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter = warmup_iter

    def before_train(self) -> None:
        self._start, self._in_steps = time.perf_counter(), 0.0

    def before_step(self) -> None:
        self._step_start = time.perf_counter()

    def after_step(self) -> None:
        now = time.perf_counter()
        if self.trainer.iter - self.trainer.start_iter + 1 >= self._warmup_iter:
            self._in_steps += now - self._step_start
            self.trainer.storage.put_scalars(time=now - self._step_start)
        else:
            self._start = now

    def after_train(self) -> None:
        total = time.perf_counter() - self._start
        steps = self.trainer.iter + 1 - self.trainer.start_iter - self._warmup_iter
        whole, inside, hooks = (timedelta(seconds=int(s)) for s in (total, self._in_steps, total - self._in_steps))
        if steps > 0 and self._in_steps > 0:
            each = self._in_steps / steps
            logger.info(f"Overall training speed: {steps} iterations in {inside} ({each:.4f} s / it)")
        logger.info(f"Total training time: {whole} ({hooks} on hooks)")


class LRScheduler(HookBase):
    """Steps the schedule (default: the trainer's) after every iteration, and puts the largest group's rate as "lr"."""

    def __init__(self, optimizer: Optimizer | None = None, scheduler: Any = None) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler

    @property
    def scheduler(self) -> Any:
        return self._scheduler or self.trainer.scheduler

    def before_train(self) -> None:
        groups = (self._optimizer or self.trainer.optimizer).param_groups
        self._group = max(groups, key=lambda group: len(group["params"]))

    def after_step(self) -> None:
        self.trainer.storage.put_scalar("lr", self._group["lr"], smoothing_hint=False)
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state_dict)


class PeriodicCheckpointer(fvcore_checkpoint.PeriodicCheckpointer, HookBase):
    """Saves ``model_0000999`` and so on every ``period`` iterations, and ``model_final`` after the last."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class PeriodicWriter(HookBase):
    """Lets writers write every ``period`` iterations and at the end."""

    def __init__(self, writers: Sequence[EventWriter], period: int = 20) -> None:
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.write()
            writer.close()


class _AtEvaluation(HookBase):
    """Does something every ``_period`` iterations (0: never) and after a training that came to its end."""

    _period: int
    _at_end = True

    def _do(self) -> None:
        raise NotImplementedError

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._do()

    def after_train(self) -> None:
        if self._at_end and self.trainer.iter + 1 >= self.trainer.max_iter:
            self._do()


class EvalHook(_AtEvaluation):
    """Calls ``eval_function`` in all processes and puts its nested results as scalars named "a/b"."""

    def __init__(self, eval_period: int, eval_function: Callable[[], Any], eval_after_train: bool = True) -> None:
        self._period = eval_period
        self._func = eval_function
        self._at_end = eval_after_train

    def _do(self) -> None:
        self.trainer.storage.put_scalars(**dict(_flatten(self._func() or {})), smoothing_hint=False)
        comm.synchronize()


def _flatten(results: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in results.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}/")
        else:
            yield prefix + name, float(value)


class BestCheckpointer(_AtEvaluation):
    """Saves ``file_prefix`` when the scalar ``val_metric`` is better than ever; register it after the EvalHook."""

    def __init__(
        self, eval_period: int, checkpointer: Any, val_metric: str, mode: str = "max", file_prefix: str = "model_best"
    ) -> None:
        if mode not in ("max", "min"):
            raise AssertionError(f"mode='{mode}'; allowed are 'max' and 'min'.")
        self._period = eval_period
        self._checkpointer = checkpointer
        self._val_metric = val_metric
        self._sign = 1 if mode == "max" else -1
        self._file_prefix = file_prefix
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def _do(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self._val_metric, (math.nan, 0))
        if not math.isfinite(value):
            logger.warning(f"No value of {self._val_metric} to find the best model by.")
        elif self.best_metric is None or self._sign * value > self._sign * self.best_metric:
            self.best_metric, self.best_iter = value, iteration
            self._checkpointer.save(self._file_prefix, iteration=iteration)
            logger.info(f"Saved the best model so far: {self._val_metric} {value:.5f} at iteration {iteration}.")


class PreciseBN(HookBase):
    """Sets batch norms to the true mean statistics of ``num_iter`` batches, every ``period`` and after the last."""

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable[Any], num_iter: int) -> None:
        self._period = period
        self._model = model
        self._data = iter(data_loader)
        self._num_iter = num_iter

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0):
            with EventStorage():  # its scalars are nobody's
                update_bn_stats(self._model, self._data, self._num_iter)
