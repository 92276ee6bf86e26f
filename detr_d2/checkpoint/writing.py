"""Checkpoints on their way to disk: whole or not at all."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from detr_d2.files import write_whole


def write_checkpoint(content: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write tensors and plain data; what stood there before stays until all is written.

    Raises:
        OSError: what the system refused, such as for want of space; it names the path.
        KeyboardInterrupt: it was interrupted, and is written all the same.
    """
    try:
        with _interrupted_later():
            return write_whole(path, lambda file: torch.save(dict(content), file))
    except (OSError, RuntimeError) as error:
        # Where a write fails, torch still closes its archive, and raises what it finds wrong with that instead.
        refused = error if isinstance(error, OSError) else error.__context__
        if not isinstance(refused, OSError):
            raise
        raise OSError(refused.errno, refused.strerror or str(refused), os.fspath(path)) from error


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Keeps Ctrl-C until the end: torch's writer, interrupted, aborts the process when it is taken down."""
    if threading.current_thread() is not threading.main_thread():  # others aren't interrupted
        yield
        return
    interruptions: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: interruptions.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
    if interruptions and before is not signal.SIG_IGN:
        raise KeyboardInterrupt
