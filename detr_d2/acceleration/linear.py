"""Matrix products as 1x1 convolutions.

PyTorch leaves products to MKL, which is slow on processors that aren't Intel's, and convolutions to oneDNN, which is
fast on all.

Replaces: ``nn.Linear`` and ``nn.MultiheadAttention`` (batch first), without gradients, of float32 tokens on a CPU.
Helps: CPUs that aren't Intel's.
Equal: tests/acceleration/test_linear.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .recording import is_recorded


def use_convolutions_for_products_(model: nn.Module) -> None:
    """From now on linear layers and attentions compute products of tokens as convolutions, where that is faster."""
    for module in model.modules():
        if type(module) is nn.Linear and module.bias is not None:
            module.__class__ = ConvolutionLinear
        elif type(module) is nn.MultiheadAttention and _is_usual(module):
            module.__class__ = ConvolutionAttention


class ConvolutionLinear(nn.Linear):
    """``nn.Linear`` through :func:`product`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D')."""
        return product(x, self.weight, self.bias)


class ConvolutionAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` through :func:`product`; where weights are asked for, it is as ever."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) queries over (B, M, D) keys and values; ``key_padding_mask`` (B, M) bool is True on padding."""
        if self.training or need_weights or options or not _is_faster_as_convolution(query):
            return super().forward(query, key, value, key_padding_mask, need_weights, **options)
        parts = zip((query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        q, k, v = (product(*part).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        seen = None if key_padding_mask is None else ~key_padding_mask[:, None, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return product(attended.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias), None


def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.linear``: (..., D), (D', D) and (D',) to (..., D')."""
    if not _is_faster_as_convolution(x):
        return F.linear(x, weight, bias)
    # With channels last these are views: nothing is copied.
    return F.conv2d(x.transpose(1, 2).unsqueeze(2), weight[:, :, None, None], bias).squeeze(2).transpose(1, 2)


def _is_faster_as_convolution(x: Tensor) -> bool:
    """Float32 tokens (B, N, D) on a CPU, without gradients, and not in a graph that is recorded."""
    if torch.is_grad_enabled() or is_recorded():
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 3


def _is_usual(attention: nn.MultiheadAttention) -> bool:
    """Batch first, one width for queries, keys and values, and a bias; nothing is added to keys and values."""
    plain = attention.batch_first and attention._qkv_same_embed_dim and attention.in_proj_bias is not None
    return plain and attention.bias_k is None and not attention.add_zero_attn
