"""The numbers of a training step: averaged over the processes, logged, and refused where they aren't finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from detr_d2.errors import DivergenceError

from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage

LESS_DIVERGENCE = "Lower SOLVER.BASE_LR, keep SOLVER.CLIP_GRADIENTS on, or switch SOLVER.AMP.ENABLED off."
"""What to do about it, as the end of a message."""

_SHOWN = 4


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
    storage = _event_storage()
    if storage is None:
        return
    values = mean_over_processes(torch.stack([value.detach().float() for value in scalars.values()]))
    for name, value in zip(scalars, values.tolist(), strict=True):
        storage.put_scalar(name, value)


def is_due(period: int) -> bool:
    """Whether this process has to do in this iteration what is done every ``period`` ones; 0: never.

    Without a trainer there is no event storage, and nothing is due.
    """
    storage = _event_storage()
    return storage is not None and period > 0 and storage.iter % period == 0 and comm.is_main_process()


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of those tensors that have NaN or infinity in them."""
    return [name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]


def refuse_non_finite(losses: Mapping[str, Tensor], batched_inputs: Sequence[Mapping[str, Any]]) -> None:
    """Refuses losses of one element each that aren't finite; all on one device, there is one transfer from it.

    Raises:
        DivergenceError: naming the losses, the iteration and the images.
    """
    values = torch.stack([value.detach().float().reshape(()) for value in losses.values()]).tolist()
    wrong = [f"{name} is {value}" for name, value in zip(losses, values) if not abs(value) < float("inf")]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise _divergence(", ".join(wrong[:_SHOWN]) + more, batched_inputs)


@contextmanager
def explaining_divergence(batched_inputs: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Says of predictions that can't be matched where that was; the matcher knows neither iteration nor images.

    Args:
        batched_inputs: the model's.

    Raises:
        DivergenceError: instead of the matcher's ``FloatingPointError``.
    """
    try:
        yield
    except FloatingPointError as error:
        what = "the predictions aren't finite, so that loss_ce, loss_bbox and loss_giou can't be computed"
        raise _divergence(what, batched_inputs) from error


def _divergence(what: str, batched_inputs: Sequence[Mapping[str, Any]]) -> DivergenceError:
    """The error to raise.

    Args:
        what: isn't finite, as a sentence without its full stop.
        batched_inputs: the model's, with the "file_name" of each image.
    """
    names = [str(item["file_name"]) for item in batched_inputs if "file_name" in item]
    images = f" Images of the batch: {', '.join(names)}." if names else ""
    storage = _event_storage()
    when = "" if storage is None else f" at iteration {storage.iter}"
    return DivergenceError(f"The training diverged{when}: {what}.{images} {LESS_DIVERGENCE}")


def _event_storage() -> EventStorage | None:
    """The trainer's; None where there is no training."""
    try:
        return get_event_storage()
    except AssertionError:
        return None
