"""An independently written subset of Detectron2's API; not Detectron2.

Boxes in absolute pixels: x to the right, y down, (0, 0) the outer corner of the first pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

RawBox = TypeVar("RawBox", list, tuple, np.ndarray, Tensor)


class BoxMode(IntEnum):
    """How four numbers describe a box. The relative modes and the rotated one are names only."""

    XYXY_ABS = 0  # left, top, right, bottom
    XYWH_ABS = 1  # left, top, width, height
    XYXY_REL = 2
    XYWH_REL = 3
    XYWHA_ABS = 4

    @staticmethod
    def convert(box: RawBox, from_mode: BoxMode, to_mode: BoxMode) -> RawBox:
        """Express a box, or boxes, in another mode.

        Args:
            box: four numbers as a list or tuple, or an (N, 4) array or tensor.

        Returns:
            A new object of the same type (the same object if the modes are equal). As in Detectron2, the floats of a
            list or tuple are rounded to float32.

        Raises:
            AssertionError: a relative mode, or not four numbers.
            NotImplementedError: a rotated mode.
        """
        if from_mode == to_mode:
            return box
        modes = {from_mode, to_mode}
        assert not modes & {BoxMode.XYXY_REL, BoxMode.XYWH_REL}, "Relative mode not yet supported!"
        if modes != {BoxMode.XYXY_ABS, BoxMode.XYWH_ABS}:
            raise NotImplementedError(f"Conversion from BoxMode {from_mode} to {to_mode} is not supported yet")
        sign = 1 if from_mode == BoxMode.XYWH_ABS else -1
        if isinstance(box, (list, tuple)):
            assert len(box) == 4, f"BoxMode.convert takes 4 numbers or an Nx4 array or tensor, got {len(box)} numbers."
            original_type: Any = type(box)
            return original_type(_add_corner(torch.tensor(box), sign).tolist())
        if isinstance(box, np.ndarray):
            return _add_corner(torch.from_numpy(box), sign).numpy()
        return _add_corner(box, sign)


def _add_corner(boxes: Tensor, sign: int) -> Tensor:
    """Add (1) or take away (-1) the first two numbers to or from the last two."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] + sign * boxes[..., :2]], dim=-1)


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

    def clone(self) -> Boxes:
        """Boxes with storage of their own."""
        return Boxes(self.tensor.clone())

    def to(self, device: torch.device | str) -> Boxes:
        """The boxes on ``device``."""
        return Boxes(self.tensor.to(device=device))

    @property
    def device(self) -> torch.device:
        """Where the boxes are."""
        return self.tensor.device

    def area(self) -> Tensor:
        """(N,) areas in square pixels; negative for a box with one side turned over."""
        width_height = self.tensor[:, 2:] - self.tensor[:, :2]
        return width_height[:, 0] * width_height[:, 1]

    def clip(self, box_size: tuple[int, int]) -> None:
        """Move, in place, coordinates outside of a picture of (height, width) to its border.

        Raises:
            AssertionError: a coordinate is infinite or not a number.
        """
        assert torch.isfinite(self.tensor).all(), "Box tensor contains infinite or NaN!"
        height, width = box_size
        x = self.tensor[:, 0::2].clamp(min=0, max=width)
        y = self.tensor[:, 1::2].clamp(min=0, max=height)
        self.tensor = torch.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), dim=-1)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """(N,) bool: both sides are longer than ``threshold`` pixels."""
        return ((self.tensor[:, 2:] - self.tensor[:, :2]) > threshold).all(dim=1)

    def get_centers(self) -> Tensor:
        """(N, 2) centres, x and y."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply, in place, all x by ``scale_x`` and all y by ``scale_y``."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    def __getitem__(self, item: Any) -> Boxes:
        """Boxes chosen by an int (one box), a slice, a bool mask or indices."""
        chosen = self.tensor[item]
        if isinstance(item, int):
            chosen = chosen[None]
        assert chosen.dim() == 2, f"Indexing on Boxes with {item} failed to return a matrix!"
        return Boxes(chosen)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensor)

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"

    @classmethod
    def cat(cls, boxes_list: list[Boxes] | tuple[Boxes, ...]) -> Boxes:
        """All boxes of a list, in order."""
        assert isinstance(boxes_list, (list, tuple)) and all(isinstance(boxes, Boxes) for boxes in boxes_list)
        return cls(torch.cat([boxes.tensor for boxes in boxes_list])) if boxes_list else cls(torch.empty(0))
