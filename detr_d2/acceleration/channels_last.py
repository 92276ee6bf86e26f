"""Convolutions with the channels of a pixel side by side in memory.

Replaces: the memory format of all weights of convolutions; features follow it.
Helps: CPUs (oneDNN) and GPUs with tensor cores, where convolutions would otherwise reorder what they are given.
Equal: tests/acceleration/test_accelerate.py.
"""

from __future__ import annotations

import torch
from torch import nn


def use_channels_last_(model: nn.Module) -> None:
    """Store the weights of convolutions with channels last; shapes and values stay."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
