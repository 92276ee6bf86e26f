"""An independently written subset of Detectron2's API; not Detectron2. Convolutions with norms, frozen batch norm."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch norm with constant statistics and constant scale and shift: all four are buffers, so nothing trains them.

    Starts as the identity. ``eps`` is added to the variance.
    """

    _version = 3  # of the saved state: as in Detectron2, so that either reads the other's files

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features) - eps)
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape and dtype."""
        if not x.requires_grad:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        # F.batch_norm would keep and compute what gradients of the constants need; a multiply-add doesn't.
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift.to(x.dtype)[:, None, None], x, scale.to(x.dtype)[:, None, None])

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}, eps={self.eps}"

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        # The oldest files hold scale and shift only: the statistics are folded into them.
        if (local_metadata.get("version") or 0) < 2:
            state_dict.setdefault(prefix + "running_mean", torch.zeros_like(self.running_mean))
            state_dict.setdefault(prefix + "running_var", torch.ones_like(self.running_var))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """``module`` with every batch norm in it (in place), or itself (a new module), turned into a frozen one."""
        if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            frozen = cls(module.num_features, module.eps)
            names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
            for name in names:
                if (value := getattr(module, name)) is not None:
                    setattr(frozen, name, value.detach().clone())
            return frozen
        for name, child in module.named_children():
            converted = cls.convert_frozen_batchnorm(child)
            if converted is not child:
                module.add_module(name, converted)
        return module


def build_norm(name: str, channels: int) -> nn.Module | None:
    """A norm layer by Detectron2's name for it: "BN", "SyncBN", "FrozenBN", "GN" (32 groups), or "" for none.

    "SyncBN" shares statistics among processes, and is plain batch norm when there is one process.
    """
    layers = {"BN": nn.BatchNorm2d, "SyncBN": nn.SyncBatchNorm, "FrozenBN": FrozenBatchNorm2d}
    if not name:
        return None
    if name == "GN":
        return nn.GroupNorm(32, channels)
    if name not in layers:
        raise ValueError(f"MODEL.RESNETS.NORM='{name}' is unknown; allowed are BN, SyncBN, FrozenBN, GN and ''.")
    return layers[name](channels)


class ConvNorm(nn.Conv2d):
    """A convolution without bias, padded to keep the size at stride 1, followed by a norm kept under ``.norm``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        norm: str,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)
        self.norm = build_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.norm is None else self.norm(x)
