"""Where a place of the feature map lies, as sines and cosines.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", appendix A.4;
Vaswani et al. 2017, "Attention Is All You Need", section 3.5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PositionEmbeddingSine(nn.Module):
    """Sine positions of the unpadded part of a feature map; it has no parameters.

    Args:
        num_pos_feats: channels for each axis; the result has twice as many. Must be even.
        temperature: base of the wavelengths' geometric series.
        scale: the unpadded height and width are both stretched to this length.

    Raises:
        ValueError: ``num_pos_feats`` is odd.
    """

    def __init__(self, num_pos_feats: int = 128, temperature: float = 10000.0, scale: float = 2 * math.pi) -> None:
        super().__init__()
        if num_pos_feats % 2:
            raise ValueError(f"num_pos_feats={num_pos_feats} is odd; sines and cosines come in pairs.")
        self.num_pos_feats = num_pos_feats
        self.temperature = temperature
        self.scale = scale

    def forward(self, padding_mask: Tensor) -> Tensor:
        """
        Args:
            padding_mask: (B, H, W) bool, True on padding.

        Returns:
            (B, 2 * num_pos_feats, H, W) float32: first the channels of y, then those of x.
        """
        inside = ~padding_mask
        y = inside.cumsum(1, dtype=torch.float32)
        x = inside.cumsum(2, dtype=torch.float32)
        y = y / (y[:, -1:, :] + 1e-6) * self.scale
        x = x / (x[:, :, -1:] + 1e-6) * self.scale
        return torch.cat([self._waves(y), self._waves(x)], dim=1)

    def _waves(self, position: Tensor) -> Tensor:
        """(B, H, W) positions to (B, num_pos_feats, H, W): sine and cosine of each wavelength in turn."""
        step = torch.arange(0, self.num_pos_feats, 2, dtype=torch.float32, device=position.device)
        angle = position[:, None] / self.temperature ** (step / self.num_pos_feats)[:, None, None]
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1, 2)
