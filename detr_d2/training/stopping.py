"""Ctrl-C and SIGTERM end a training after the iteration, with a checkpoint; it goes on as if nothing had happened.

The second signal ends it at once.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import torch

from detr_d2.data.train_loader import STEPS, TrainLoader, seed_chance
from detr_d2.errors import Terminated

from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)

#: What the first process sends to those that it has started when it is signalled itself: they may have been, too.
FORWARDED = signal.SIGUSR1
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def interruption(number: int) -> KeyboardInterrupt:
    """What to raise for a signal: ``Terminated`` for SIGTERM, else ``KeyboardInterrupt``."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def terminated_by_signal() -> Iterator[None]:
    """Within, SIGTERM raises ``Terminated``, so that files and processes are tidied up as after Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def forwarding_signals() -> Iterator[None]:
    """Within, signals go on to the processes that this one has started, and this one waits for them.

    Raises:
        KeyboardInterrupt: a signal came; the second time at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if received.count(number) > 1:
            raise interruption(number)
        for process in multiprocessing.active_children():
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, FORWARDED)

    before = {number: signal.signal(number, forward) for number in _SIGNALS}
    try:
        yield
    except (Exception, KeyboardInterrupt):  # such as that a process ended, which it was to do
        if not received:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise interruption(received[0])


class StopOnSignal(HookBase):
    """Saves a checkpoint and leaves the training when a signal has come, in all processes after the same iteration.

    It comes behind the periodic checkpoint and before the evaluation. An evaluation isn't waited for: ``--resume``
    makes up for it.
    """

    def __init__(self) -> None:
        self._received: list[int] = []
        self._before: dict[int, Any] = {}
        self._is_evaluating = False

    def before_train(self) -> None:
        """Takes over the signals."""
        if threading.current_thread() is threading.main_thread():
            signals = (*_SIGNALS, FORWARDED) if comm.get_world_size() > 1 else _SIGNALS
            self._before = {number: signal.signal(number, self._receive) for number in signals}

    def after_step(self) -> None:
        """
        Raises:
            KeyboardInterrupt: a signal has come to one of the processes.
        """
        mine = self._received[0] if self._received else 0
        number = mine if comm.get_world_size() == 1 else max(comm.all_gather(mine))
        if number:
            self._save()
            comm.synchronize()  # nobody leaves, and so ends the others, before all is written
            raise interruption(number)

    def after_train(self) -> None:
        """Gives the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within, a signal is not waited for, as the weights don't change.

        Raises:
            KeyboardInterrupt: a signal came, perhaps before.
        """
        if self._received:
            raise interruption(self._received[0])
        self._is_evaluating = True
        try:
            yield
        except KeyboardInterrupt:
            self._is_evaluating = False
            self._save()
            raise
        finally:
            self._is_evaluating = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        is_again = number in self._received
        self._received.append(number)
        if is_again or self._is_evaluating:
            raise interruption(self._received[0])
        if comm.is_main_process() and len(self._received) == 1:
            name = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}.get(signal.Signals(number), "A signal")
            # Not by print or a logger, which may be in the middle of a line.
            os.write(
                2, f"{name}: the training saves and stops after this iteration; once more stops it now.\n".encode()
            )

    def _save(self) -> None:
        """A checkpoint of the last iteration, unless there is one."""
        trainer = self.trainer
        if trainer.iter < trainer.max_iter and trainer.checkpointer.saved_iteration != trainer.iter:
            trainer.checkpointer.save(f"model_{trainer.iter:07d}", iteration=trainer.iter)


class ExactResume(HookBase):
    """Keeps in each checkpoint where the loader is, and makes a step's chance follow from seed, process and iteration.

    So nothing has to be known of the generators of random numbers of all processes and devices, and an evaluation in
    between doesn't change what comes after it.

    Args:
        loader: the trainer's.
    """

    def __init__(self, loader: TrainLoader) -> None:
        self._loader = loader
        self._is_loaded = False

    def before_train(self) -> None:
        if self.trainer.start_iter and not self._is_loaded:
            logger.warning(
                "The checkpoint doesn't say where in the order of images it was written, as one of an earlier version; "
                "the order begins anew."
            )

    def before_step(self) -> None:
        seed_chance(self._loader.seed, STEPS, comm.get_rank(), self.trainer.iter)
        if torch.cuda.is_available():
            torch.cuda.manual_seed(torch.initial_seed())

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._loader.load_state_dict(state_dict)
        self._is_loaded = True
