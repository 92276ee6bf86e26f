"""Processes of a data loader, when signals come."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from torch.utils.data import get_worker_info


class OutlivingSignals:
    """A mapper whose workers leave Ctrl-C and SIGTERM, which the terminal or a scheduler sends to all, to their parent.

    It ends them when it ends itself; until then it needs their images, to finish what it does.

    Args:
        mapper: does the work.
    """

    def __init__(self, mapper: Callable[[Any], dict[str, Any]]) -> None:
        self._mapper = mapper

    def __call__(self, entry: Any) -> dict[str, Any]:
        """What the mapper makes of an entry."""
        outlive_signals()
        return self._mapper(entry)


def outlive_signals() -> None:
    """In a worker of a loader: nobody but the parent ends it. Elsewhere nothing changes."""
    if get_worker_info() is not None:
        _outlive_signals()


@functools.cache
def _outlive_signals() -> None:
    """Once in each process; only a thread that waits for a signal learns who sent it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent:
            os._exit(0)
