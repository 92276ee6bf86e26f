"""The same mathematics, faster: modules of ``detr_d2.modeling`` and of the backbone are swapped in place.

Nothing here is needed: results are those of the plain modules but for rounding, parameters and their names stay, and
without this folder everything works as before. What each one gains is measured by ``tools/benchmark_inference.py
--accelerations`` and ``tools/benchmark_training.py --accelerations``; docs/performance.md has the tables.

Modules of known classes become modules of a subclass; those of the backbone, whose class depends on the Detectron2 in
use, get another ``forward``. Both survive copying and pickling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from .banding import band_first_stages_
from .folding import fold_norms_
from .upsampling import merge_upsampling_


def use_channels_last_(model: nn.Module) -> None:
    """Store the weights of convolutions with the channels of a pixel side by side; features follow them.

    Replaces: the memory format; shapes and values stay.
    Helps: CPUs (oneDNN) and GPUs with tensor cores, where convolutions would otherwise reorder what they are given.
    Equal: tests/acceleration/test_accelerate.py.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


#: Name to what swaps the modules of a model, in the order in which they are applied.
ACCELERATIONS: dict[str, Callable[[nn.Module], None]] = {
    "channels_last": use_channels_last_,
    "folding": fold_norms_,
    "banding": band_first_stages_,
    "upsampling": merge_upsampling_,
}

__all__ = ["ACCELERATIONS", "accelerate_"]


def accelerate_(model: nn.Module, names: Iterable[str] = tuple(ACCELERATIONS)) -> None:
    """Make a model faster in place.

    Args:
        model: any; what isn't known stays as it is.
        names: keys of ``ACCELERATIONS``.

    Raises:
        ValueError: a name is unknown.
    """
    chosen = set(names)
    if not chosen <= ACCELERATIONS.keys():
        unknown = ", ".join(sorted(chosen - ACCELERATIONS.keys()))
        raise ValueError(f"There is no acceleration {unknown}; allowed are {', '.join(ACCELERATIONS)}.")
    for name, accelerate_one_ in ACCELERATIONS.items():
        if name in chosen:
            accelerate_one_(model)
