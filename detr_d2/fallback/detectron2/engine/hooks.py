"""An independently written subset of Detectron2's API; not Detectron2. Hooks that most trainings have."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import fvcore.common.checkpoint as fvcore_checkpoint

from detectron2.utils import comm
from detectron2.utils.events import EventWriter

logger = logging.getLogger(__name__)


class HookBase:
    """What happens around the steps of a training; ``trainer`` is set when the hook is registered."""

    trainer: Any = None

    def before_train(self) -> None:
        """Before the first iteration."""

    def after_train(self) -> None:
        """After the last iteration, also when training failed."""

    def before_step(self) -> None:
        """Before each iteration; should take no time worth measuring."""

    def after_step(self) -> None:
        """After each iteration."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; a hook that keeps something also has ``load_state_dict``."""
        return {}


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
        whole, inside, hooks = (timedelta(seconds=int(s)) for s in (total, self._in_steps, total - self._in_steps))
        if (steps := self.trainer.iter + 1 - self.trainer.start_iter - self._warmup_iter) > 0:
            each = self._in_steps / steps
            logger.info(f"Overall training speed: {steps} iterations in {inside} ({each:.4f} s / it)")
        logger.info(f"Total training time: {whole} ({hooks} on hooks)")


class LRScheduler(HookBase):
    """Puts the largest group's rate as "lr", then steps the schedule; both are the trainer's unless given."""

    def __init__(self, optimizer: Any = None, scheduler: Any = None) -> None:
        self._optimizer, self._scheduler = optimizer, scheduler

    @property
    def scheduler(self) -> Any:
        return self._scheduler or self.trainer.scheduler

    def before_train(self) -> None:
        self._optimizer = self._optimizer or self.trainer.optimizer

    def after_step(self) -> None:
        group = max(self._optimizer.param_groups, key=lambda group: len(group["params"]))
        self.trainer.storage.put_scalar("lr", group["lr"], smoothing_hint=False)
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


def _flatten(results: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in results.items():
        yield from _flatten(value, f"{prefix}{name}/") if isinstance(value, dict) else [(prefix + name, float(value))]
