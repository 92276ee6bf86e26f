"""An independently written subset of Detectron2's API; not Detectron2. Convolutions with norms, frozen batch norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch norm of buffers only, so that nothing trains its statistics, scale and shift; at first the identity."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features) - eps)
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: Tensor) -> Tensor:
        if not x.requires_grad:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        # F.batch_norm would keep and compute what gradients of the constants need; a multiply-add doesn't.
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift.to(x.dtype)[:, None, None], x, scale.to(x.dtype)[:, None, None])

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """``module`` with every batch norm in it (in place), or itself (a new module), turned into a frozen one."""
        if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            frozen = cls(module.num_features, module.eps)
            for name, value in module.state_dict().items():
                setattr(frozen, name, value.clone())
            return frozen
        for name, child in module.named_children():
            module.add_module(name, cls.convert_frozen_batchnorm(child))
        return module


_NORMS: dict[str, Callable[[int], nn.Module | None]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,  # plain batch norm where there is one process
    "FrozenBN": FrozenBatchNorm2d,
    "GN": lambda channels: nn.GroupNorm(32, channels),
    "": lambda channels: None,
}


class ConvNorm(nn.Conv2d):
    """A convolution without bias, padded to keep the size at stride 1, then the ``norm`` of that name, if any."""

    def __init__(self, inputs: int, outputs: int, size: int, norm: str, stride: int = 1, **options: Any) -> None:
        padding = options.get("dilation", 1) * (size // 2)
        super().__init__(inputs, outputs, size, stride, padding, bias=False, **options)
        if norm not in _NORMS:
            raise ValueError(f"MODEL.RESNETS.NORM='{norm}' is unknown; allowed are {', '.join(_NORMS)} and ''.")
        self.norm = _NORMS[norm](outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.norm is None else self.norm(x)
