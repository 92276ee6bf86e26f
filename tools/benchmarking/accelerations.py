"""What each acceleration gains: our model without it beside our model with all of them, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import nn

from detr_d2.acceleration import ACCELERATIONS

from .measure import seconds_interleaved

Built = tuple[nn.Module, Callable[[], object]]
"""A model, and what is measured."""


def variants() -> dict[str, tuple[str, ...]]:
    """A row's name to the accelerations that are on."""
    every = tuple(ACCELERATIONS)
    without = {f"without {name}": tuple(other for other in every if other != name) for name in every}
    return {"all": every, **without, "none": ()}


def compare_accelerations(build: Callable[[tuple[str, ...]], Built], repeats: int) -> list[dict[str, Any]]:
    """Processor seconds of every variant, with the same weights; programs beside them count less so.

    Args:
        build: names of accelerations to a model that has them.
        repeats: rounds; the median counts.

    Returns:
        Rows with "accelerations", "processor seconds" and "× all".
    """
    built = {name: build(accelerations) for name, accelerations in variants().items()}
    weights = built["all"][0].state_dict()
    for model, _ in built.values():
        model.load_state_dict(weights)
    runs = {name: run for name, (_, run) in built.items()}
    seconds = seconds_interleaved(runs, repeats, time.process_time)
    return [
        {"accelerations": name, "processor seconds": value, "× all": value / seconds["all"]}
        for name, value in seconds.items()
    ]
