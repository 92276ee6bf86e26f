"""Batch norms of constant statistics, done by the convolutions before them.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", section 3.2.

Replaces: the ``forward`` of convolutions with a batch norm of constant statistics in their attribute ``norm``, while
they aren't trained.
Helps: CPUs and GPUs; a pass over each feature map is saved.
Equal: tests/acceleration/test_folding.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


def fold_norms_(model: nn.Module) -> None:
    """From now on convolutions with a batch norm in ``norm`` scale and shift by it on their own, while it is constant.

    The folded weights are made anew in every forward pass, which takes a few hundredths of its time: so parameters,
    checkpoints and what can be trained stay as they were, and nothing can be out of date.

    Args:
        model: changed in place; of its convolutions those are folded that have the attribute ``norm``, as Detectron2's
            do.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and hasattr(module, "norm"):
            module.forward = partial(_folded_forward, module)  # type: ignore[method-assign]


def _folded_forward(self: Any, x: Tensor) -> Tensor:
    """The forward pass of a convolution with a norm and perhaps an activation, which it may have had before."""
    norm = self.norm
    trained = torch.is_grad_enabled() and self.weight.requires_grad  # the folded weights would have to be kept
    if trained or not _is_constant(norm):
        return type(self).forward(self, x)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    if self.bias is not None:
        shift = shift + self.bias * scale
    weight = self.weight * scale[:, None, None, None]
    x = F.conv2d(x, weight, shift, self.stride, self.padding, self.dilation, self.groups)
    activation = getattr(self, "activation", None)
    return x if activation is None else activation(x)


def _is_constant(norm: nn.Module | None) -> bool:
    """A batch norm whose result for one pixel depends on no other: a frozen one, or one that isn't training."""
    if getattr(norm, "running_mean", None) is None or getattr(norm, "weight", None) is None:
        return False
    return not (isinstance(norm, _BatchNorm) and norm.training)
