"""An independently written subset of Detectron2's API; not Detectron2. The loop, what hooks into it, and its step."""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detr_d2.errors import ConfigError

from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage

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


class TrainerBase:
    """A loop with hooks, called in the order of their registration."""

    def __init__(self) -> None:
        self._hooks: list[Any] = []
        self.iter = self.start_iter = self.max_iter = 0

    def register_hooks(self, hooks: Sequence[HookBase | None]) -> None:
        """Add hooks to the end; None is left out."""
        self._hooks += [hook for hook in hooks if hook is not None]
        for hook in self._hooks:
            hook.trainer = weakref.proxy(self)

    def train(self, start_iter: int, max_iter: int) -> Any:
        """Iterations ``start_iter`` to ``max_iter - 1``; afterwards ``iter`` is ``max_iter`` unless training failed."""
        logger.info(f"Starting training from iteration {start_iter}")
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self._call_hooks("before_train")
                for self.iter in range(start_iter, max_iter):
                    self.storage.iter = self.iter
                    self._call_hooks("before_step")
                    self.run_step()
                    self._call_hooks("after_step")
                self.iter += 1
            except Exception:
                logger.exception("Exception during training:")
                raise
            finally:
                self.storage.iter = self.iter
                self._call_hooks("after_train")

    def _call_hooks(self, moment: str) -> None:
        for hook in self._hooks:
            getattr(hook, moment)()

    def run_step(self) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The iteration, and the hooks' states by the names of their classes."""
        states = {type(hook).__qualname__: state for hook in reversed(self._hooks) if (state := hook.state_dict())}
        return {"iteration": self.iter, "hooks": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.iter = state_dict["iteration"]
        hooks = {type(hook).__qualname__: hook for hook in reversed(self._hooks)}
        for name, state in state_dict.get("hooks", {}).items():
            if name in hooks:
                hooks[name].load_state_dict(state)
            else:
                logger.warning(f"There is no hook {name} now; its saved state is ignored.")


class SimpleTrainer:
    """One step: data, losses, gradients, update; ``use_amp``: in mixed precision, on a GPU."""

    def __init__(self, model: nn.Module, data_loader: Iterable[Any], optimizer: Optimizer, use_amp: bool) -> None:
        if use_amp and not torch.cuda.is_available():
            raise ConfigError("SOLVER.AMP.ENABLED needs a GPU, and PyTorch finds none; set SOLVER.AMP.ENABLED False.")
        self.model, self.data_loader, self.optimizer = model.train(), data_loader, optimizer
        self.iter, self.use_amp = 0, use_amp
        self.grad_scaler = torch.amp.GradScaler(enabled=use_amp)
        self._iterator: Iterator[Any] | None = None

    def run_step(self) -> None:
        start = time.perf_counter()
        if self._iterator is None:
            self._iterator = iter(self.data_loader)
        data = next(self._iterator)
        data_time = time.perf_counter() - start
        with torch.autocast("cuda", enabled=self.use_amp):
            losses = self.model(data)
            losses = {"total_loss": losses} if isinstance(losses, Tensor) else losses
            total = sum(losses.values())
        self.optimizer.zero_grad()
        self.grad_scaler.scale(total).backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _write_metrics(self, losses: dict[str, Tensor], data_time: float) -> None:
        """Losses averaged over the processes, and the slowest one's wait for data; one transfer from the device."""
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time)
        numbers = torch.stack([loss.detach().float() for loss in losses.values()]).tolist()
        if not (gathered := comm.gather((data_time, numbers))):
            return
        means = [sum(column) / len(gathered) for column in zip(*(numbers for _, numbers in gathered))]
        metrics = dict(zip(losses, means))
        if not math.isfinite(total := sum(means)):
            raise FloatingPointError(f"Loss became infinite or NaN at iteration={self.iter}!\nloss_dict = {metrics}")
        storage.put_scalars(data_time=max(waited for waited, _ in gathered), total_loss=total)
        if len(metrics) > 1:
            storage.put_scalars(**metrics)

    def state_dict(self) -> dict[str, Any]:
        state = {"iteration": self.iter, "optimizer": self.optimizer.state_dict()}
        return {**state, "grad_scaler": self.grad_scaler.state_dict()} if self.use_amp else state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict["optimizer"])
        if self.use_amp and "grad_scaler" in state_dict:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
