"""The first stages of a ResNet in bands of rows, so that no large tensor is made but their result.

Replaces: the ``forward`` of Detectron2's ResNets of bottleneck blocks, without gradients.
Helps: CPUs with glibc's allocator, for images whose res2 is larger than a few megabytes.
Equal: tests/acceleration/test_banding.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .recording import is_recorded

BAND_BYTES = 28 * 2**20
"""C's malloc fetches what is over 32 MiB anew from the system each time, which takes longer than computing it."""

_STRIDE, _HALO = 4, 5
"""Of stem and res2 together; a result depends on 17 pixels to each side, 5 rows of the result."""


def band_first_stages_(model: nn.Module) -> None:
    """From now on stem and res2 are computed band by band where that is faster: on CPUs, without gradients.

    Args:
        model: its backbones are changed in place that are Detectron2's ResNets of bottleneck blocks.
    """
    for module in model.modules():
        if all(hasattr(module, name) for name in ("stem", "res2", "_out_features")) and _is_usual(module):
            module.forward = partial(_forward_in_bands, module)  # type: ignore[method-assign]


def _is_usual(backbone: Any) -> bool:
    """Three 3x3 convolutions in res2 at most, at stride 4, and no one asks for the stem's own result."""
    spread = [module for module in backbone.res2.modules() if isinstance(module, nn.Conv2d) and module.stride != (1, 1)]
    wide = [module for module in backbone.res2.modules() if isinstance(module, nn.Conv2d) and module.padding != (0, 0)]
    return not spread and len(wide) <= 3 and "stem" not in backbone._out_features


def _forward_in_bands(self: Any, x: Tensor) -> dict[str, Tensor]:
    """(B, 3, H, W) images to the backbone's dict of features."""
    rows, columns = -(-x.shape[2] // _STRIDE), -(-x.shape[3] // _STRIDE)
    row_bytes = self._out_feature_channels.get("res2", 256) * columns * x.element_size()
    band = BAND_BYTES // row_bytes - 2 * _HALO
    if is_recorded() or torch.is_grad_enabled() or x.device.type != "cpu" or not 2 * _HALO <= band < rows:
        return type(self).forward(self, x)  # type: ignore[no-any-return]
    features = {"res2": _stem_and_res2(self, x, rows, band)}
    for before, name in (("res2", "res3"), ("res3", "res4"), ("res4", "res5")):
        if hasattr(self, name):
            features[name] = getattr(self, name)(features[before])
    return {name: features[name] for name in self._out_features}


def _stem_and_res2(backbone: Any, x: Tensor, rows: int, band: int) -> Tensor:
    """(B, C, rows, W / 4): each band is computed with the rows around it that it depends on, which are then cut off."""
    result: Tensor | None = None
    for i, image in enumerate(x.split(1)):
        for start in range(0, rows, band):
            first = max(0, start - _HALO)
            part = backbone.res2(backbone.stem(image[:, :, first * _STRIDE : (start + band + _HALO) * _STRIDE]))
            if result is None:
                size = (len(x), part.shape[1], rows, part.shape[3])
                result = torch.empty(size, dtype=part.dtype, memory_format=torch.channels_last)
            result[i, :, start : start + band] = part[0, :, start - first : start - first + band]
    assert result is not None
    return result
