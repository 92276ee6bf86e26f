"""What is said when the machine's memory doesn't do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.multiprocessing import ProcessExitedException

from detr_d2.errors import ConfigError

_ALLOCATOR = "can't allocate memory"
_WORKER_ENDS = ("is killed by signal", "exited unexpectedly", "unable to write to file </torch_")


@contextmanager
def explaining_exhaustion() -> Iterator[None]:
    """Says in one sentence which keys to lower where memory, shared memory or a process was lost.

    Raises:
        ConfigError: instead of what torch and Python raise then.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ProcessExitedException) as error:
        message = _explanation(error)
        if message is None:
            raise
        raise ConfigError(message) from error


def _explanation(error: Exception) -> str | None:
    text = " ".join(str(error).split())
    reason = text[text.find("DefaultCPUAllocator") :][:200] if "DefaultCPUAllocator" in text else text[:200]
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _ALLOCATOR in text:
        return (
            f"memory ran out: {reason.rstrip('.') or 'of the main process'}. Lower SOLVER.IMS_PER_BATCH or "
            "INPUT.MAX_SIZE_TRAIN, or set MODEL.DETR.MASK_CHECKPOINT True."
        )
    if any(words in text for words in _WORKER_ENDS):
        return (
            f"a data-loader worker was lost, mostly for want of memory or of room in /dev/shm: {reason.rstrip('.')}. "
            "Lower DATALOADER.NUM_WORKERS, or give the machine more."
        )
    if isinstance(error, ProcessExitedException) and error.signal_name:
        return (
            f"process {error.error_index} was ended by {error.signal_name}, mostly for want of memory. Lower "
            "SOLVER.IMS_PER_BATCH, DATALOADER.NUM_WORKERS or --num-gpus."
        )
    return None
