"""An independently written subset of Detectron2's API; not Detectron2. Hooks that most trainings have."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import fvcore.common.checkpoint as fvcore_checkpoint

from detectron2.utils import comm
from detectron2.utils.events import EventWriter

logger = logging.getLogger(__name__)


class HookBase:
    """What happens around the steps of a training; ``trainer`` is set when the hook is registered.

    ``after_train`` also comes when training failed. A hook whose ``state_dict`` isn't empty has ``load_state_dict``.
    """

    trainer: Any = None

    def before_train(self) -> None: ...
    def before_step(self) -> None: ...
    def after_step(self) -> None: ...
    def after_train(self) -> None: ...
    def state_dict(self) -> dict[str, Any]:
        return {}


class IterationTimer(HookBase):
    """Puts each iteration's seconds as "time" and logs their mean; the first ``warmup_iter`` aren't counted."""

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter, self._seconds, self._count = warmup_iter, 0.0, 0

    def before_step(self) -> None:
        self._step_start = time.perf_counter()

    def after_step(self) -> None:
        seconds = time.perf_counter() - self._step_start
        if self.trainer.iter - self.trainer.start_iter + 1 >= self._warmup_iter:
            self._seconds, self._count = self._seconds + seconds, self._count + 1
            self.trainer.storage.put_scalars(time=seconds)

    def after_train(self) -> None:
        if self._count:
            whole, each = timedelta(seconds=int(self._seconds)), self._seconds / self._count
            logger.info(f"Overall training speed: {self._count} iterations in {whole} ({each:.4f} s / it)")


class LRScheduler(HookBase):
    """Puts the rate of the trainer's largest group as "lr", then steps its schedule."""

    def after_step(self) -> None:
        group = max(self.trainer.optimizer.param_groups, key=lambda group: len(group["params"]))
        self.trainer.storage.put_scalar("lr", group["lr"], smoothing_hint=False)
        self.trainer.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.trainer.scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.trainer.scheduler.load_state_dict(state_dict)


class PeriodicCheckpointer(fvcore_checkpoint.PeriodicCheckpointer, HookBase):
    """Saves ``model_0000999`` and so on every ``period`` iterations, and ``model_final`` after the last."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class PeriodicWriter(HookBase):
    """Lets writers write every ``period`` iterations and at the end."""

    def __init__(self, writers: Sequence[EventWriter], period: int = 20) -> None:
        self._writers, self._period = writers, period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.write()
            writer.close()


class EvalHook(HookBase):
    """Every ``eval_period`` iterations (0: never) and after the last: evaluates, and puts results as "a/b"."""

    def __init__(self, eval_period: int, eval_function: Callable[[], Any], eval_after_train: bool = True) -> None:
        self._period, self._func, self._eval_after_train = eval_period, eval_function, eval_after_train

    def _do(self) -> None:
        self.trainer.storage.put_scalars(**dict(_flatten(self._func() or {})), smoothing_hint=False)
        comm.synchronize()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._do()

    def after_train(self) -> None:
        if self._eval_after_train and self.trainer.iter + 1 >= self.trainer.max_iter:
            self._do()


class BestCheckpointer(EvalHook):
    """After each evaluation: saves ``file_prefix`` if ``val_metric`` is finite and better than it ever was.

    Comes behind the EvalHook of the same ``eval_period``; ``mode``: is the "max" or the "min" the best.
    """

    def __init__(
        self, eval_period: int, checkpointer: Any, val_metric: str, mode: str = "max", file_prefix: str = "model_best"
    ) -> None:
        assert mode in ("max", "min"), f"mode is {mode!r}; allowed are max and min."
        super().__init__(eval_period, lambda: None)
        self._checkpointer, self._name, self._mode, self._file = checkpointer, val_metric, mode, file_prefix
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def _do(self) -> None:
        if self._name not in self.trainer.storage.latest():
            logger.warning(f"There is no {self._name} among the results, so {self._file} is not saved.")
            return
        value, iteration = self.trainer.storage.latest()[self._name]
        best, sign = self.best_metric, 1 if self._mode == "max" else -1
        if not math.isfinite(value) or (best is not None and sign * value <= sign * best):
            logger.info(f"{self._name} is {value:.5f}, not better than {best} at iteration {self.best_iter}.")
            return
        self.best_metric, self.best_iter = value, iteration
        self._checkpointer.save(self._file, iteration=iteration)
        logger.info(f"{self._name} is {value:.5f}, the best so far (before: {best}); {self._file} is saved.")


def _flatten(results: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in results.items():
        yield from _flatten(value, f"{prefix}{name}/") if isinstance(value, dict) else [(prefix + name, float(value))]
