"""Numbers of a training: their means over the processes, and their way to the log."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from detectron2.utils import comm
from detectron2.utils.events import get_event_storage


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of each process's tensor; all of them have to call it, with tensors of one shape."""
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(values := values.clone())
        values /= comm.get_world_size()
    return values


def log_scalars(scalars: Mapping[str, Tensor]) -> None:
    """Puts metrics into the trainer's event storage, averaged over the processes as DETR does.

    Without a trainer there is no storage, and nothing to log to. With one, all processes have to call it, with the same
    names in the same order.

    Args:
        scalars: tensors of one element, all on one device; there is one transfer from it.
    """
    try:
        storage = get_event_storage()
    except AssertionError:
        return
    values = mean_over_processes(torch.stack([value.detach().float() for value in scalars.values()]))
    for name, value in zip(scalars, values.tolist(), strict=True):
        storage.put_scalar(name, value)


def is_due(period: int) -> bool:
    """Whether this process has to do in this iteration what is done every ``period`` ones; 0: never.

    Without a trainer there is no event storage, and nothing is due.
    """
    try:
        return period > 0 and get_event_storage().iter % period == 0 and comm.is_main_process()
    except AssertionError:
        return False
