"""An independently written subset of Detectron2's API; not Detectron2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class ImageList:
    """Pictures of several sizes in one tensor, padded at the right and at the bottom.

    Args:
        tensor: (N, ..., H, W).
        image_sizes: (height, width) of each picture without padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, index: int) -> Tensor:
        """(..., height, width): one picture without its padding."""
        height, width = self.image_sizes[index]
        return self.tensor[index, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> ImageList:
        """The pictures on another device or in another type; arguments as of ``Tensor.to``."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        """Where the pictures are."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
    ) -> ImageList:
        """Pad pictures to one size and stack them.

        Args:
            tensors: (..., Hi, Wi) each, equal in all but the last two dimensions.
            size_divisibility: if over 1, height and width become multiples of it.
            pad_value: what the padding holds.
            padding_constraints: may have ``square_size`` (the padded height and width) and ``size_divisibility``
                (goes before the argument).

        Raises:
            AssertionError: no tensors, not tensors, or dimensions that differ.
        """
        assert isinstance(tensors, (list, tuple)) and len(tensors) > 0
        for tensor in tensors:
            assert isinstance(tensor, Tensor), type(tensor)
            assert tensor.shape[:-2] == tensors[0].shape[:-2], tensor.shape
        image_sizes = [(tensor.shape[-2], tensor.shape[-1]) for tensor in tensors]
        padded = [max(sizes) for sizes in zip(*image_sizes)]
        constraints = padding_constraints or {}
        if constraints.get("square_size", 0) > 0:
            padded = [constraints["square_size"]] * 2
        stride = max(1, constraints.get("size_divisibility", size_divisibility))
        padded = [-(-size // stride) * stride for size in padded]
        batch = tensors[0].new_full((len(tensors), *tensors[0].shape[:-2], *padded), pad_value)
        for row, tensor in zip(batch, tensors):
            row[..., : tensor.shape[-2], : tensor.shape[-1]].copy_(tensor)
        return ImageList(batch, image_sizes)
