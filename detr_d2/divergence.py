"""A training that has left the numbers: found at once, and told with loss, iteration and images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from detr_d2.errors import DivergenceError

from detectron2.utils.events import get_event_storage

LESS_DIVERGENCE = "Lower SOLVER.BASE_LR, keep SOLVER.CLIP_GRADIENTS on, or switch SOLVER.AMP.ENABLED off."
"""What to do about it, as the end of a message."""

_SHOWN = 4


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
        raise divergence(", ".join(wrong[:_SHOWN]) + more, batched_inputs)


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
        raise divergence(what, batched_inputs) from error


def divergence(what: str, batched_inputs: Sequence[Mapping[str, Any]]) -> DivergenceError:
    """The error to raise.

    Args:
        what: isn't finite, as a sentence without its full stop.
        batched_inputs: the model's, with the "file_name" of each image.
    """
    names = [str(item["file_name"]) for item in batched_inputs if "file_name" in item]
    images = f" Images of the batch: {', '.join(names)}." if names else ""
    return DivergenceError(f"The training diverged{_iteration()}: {what}.{images} {LESS_DIVERGENCE}")


def _iteration() -> str:
    try:
        return f" at iteration {get_event_storage().iter}"
    except AssertionError:  # there is no training
        return ""
