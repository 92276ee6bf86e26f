"""An independently written subset of Detectron2's API; not Detectron2.

Boxes in absolute pixels: x to the right, y down, (0, 0) the outer corner of the first pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor


class BoxMode(IntEnum):
    """How four numbers describe a box."""

    XYXY_ABS = 0  # left, top, right, bottom
    XYWH_ABS = 1  # left, top, width, height

    @staticmethod
    def convert(box: Any, from_mode: BoxMode, to_mode: BoxMode) -> Any:
        """Express a box, or boxes, in another mode.

        Args:
            box: four numbers (else an AssertionError) as a list or tuple, or an (N, 4) array or tensor.

        Returns:
            A new object of the same type (the same object if the modes are equal). As in Detectron2, the floats of a
            list or tuple are rounded to float32.
        """
        if from_mode == to_mode:
            return box
        boxes = torch.as_tensor(box)
        assert boxes.shape[-1] == 4, f"BoxMode.convert takes 4 numbers or an Nx4 array or tensor, got {boxes.shape}."
        sign = 1 if from_mode == BoxMode.XYWH_ABS else -1
        boxes = torch.cat([boxes[..., :2], boxes[..., 2:] + sign * boxes[..., :2]], dim=-1)
        if isinstance(box, (list, tuple)):
            return type(box)(boxes.tolist())
        return boxes.numpy() if isinstance(box, np.ndarray) else boxes


class Boxes:
    """N axis-parallel boxes.

    Args:
        tensor: (N, 4) left, top, right, bottom in pixels, or what becomes one; kept as float32 in ``.tensor``.

    Raises:
        AssertionError: another shape.
    """

    def __init__(self, tensor: Any) -> None:
        tensor = torch.as_tensor(tensor, dtype=torch.float32)
        if tensor.numel() == 0:
            tensor = tensor.reshape(-1, 4)
        assert tensor.dim() == 2 and tensor.size(-1) == 4, f"Boxes need a tensor of shape (N, 4), got {tensor.size()}."
        self.tensor: Tensor = tensor

    def to(self, device: torch.device | str) -> Boxes:
        """The boxes on ``device``."""
        return Boxes(self.tensor.to(device=device))

    def clip(self, box_size: tuple[int, int]) -> None:
        """Move, in place, what is outside of an image of (height, width) to its border; AssertionError for NaN."""
        assert torch.isfinite(self.tensor).all(), "Box tensor contains infinite or NaN!"
        height, width = box_size
        limit = self.tensor.new_tensor([width, height, width, height])
        self.tensor = torch.minimum(self.tensor.clamp(min=0), limit)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """(N,) bool: both sides are longer than ``threshold`` pixels."""
        return ((self.tensor[:, 2:] - self.tensor[:, :2]) > threshold).all(dim=1)

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply, in place, all x by ``scale_x`` and all y by ``scale_y``."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    def __getitem__(self, item: Any) -> Boxes:
        """Boxes chosen by an int (one box), a slice, a bool mask or indices."""
        chosen = self.tensor[item][None] if isinstance(item, int) else self.tensor[item]
        assert chosen.dim() == 2, f"Indexing on Boxes with {item} failed to return a matrix!"
        return Boxes(chosen)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensor)

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"
