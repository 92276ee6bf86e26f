"""An independently written subset of Detectron2's API; not Detectron2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor


class BitMasks:
    """N masks over one image: an (N, H, W) tensor or array (else an AssertionError), kept as bool in ``.tensor``."""

    def __init__(self, tensor: Tensor | np.ndarray) -> None:
        tensor = torch.as_tensor(tensor, dtype=torch.bool)
        assert tensor.dim() == 3, f"BitMasks need a tensor of shape (N, H, W), got {tensor.size()}."
        self.image_size = tensor.shape[1:]
        self.tensor: Tensor = tensor

    def to(self, *args: Any, **kwargs: Any) -> BitMasks:
        """The masks on another device; arguments as of ``Tensor.to``."""
        return BitMasks(self.tensor.to(*args, **kwargs))

    def __getitem__(self, item: Any) -> BitMasks:
        """Masks chosen by an int (one mask), a slice, a bool mask or indices."""
        chosen = self.tensor[item][None] if isinstance(item, int) else self.tensor[item]
        assert chosen.dim() == 3, f"Indexing on BitMasks with {item} returns a tensor with shape {chosen.shape}!"
        return BitMasks(chosen)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensor)

    def __repr__(self) -> str:
        return f"BitMasks(num_instances={len(self)})"

    def nonempty(self) -> Tensor:
        """(N,) bool: the mask has at least one pixel."""
        return self.tensor.flatten(1).any(dim=1)
