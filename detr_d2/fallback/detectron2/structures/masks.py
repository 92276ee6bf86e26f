"""An independently written subset of Detectron2's API; not Detectron2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import torch
from torch import Tensor

from .boxes import Boxes


def polygons_to_bitmask(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """(height, width) bool: the union of polygons, each x0, y0, x1, y1, ... in pixels."""
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    parts = coco_mask.frPyObjects([np.asarray(polygon, dtype=np.float64) for polygon in polygons], height, width)
    return coco_mask.decode(coco_mask.merge(parts)).astype(bool)


class BitMasks:
    """N masks over one picture: an (N, H, W) tensor or array (else an AssertionError), kept as bool in ``.tensor``."""

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

    def get_bounding_boxes(self) -> Boxes:
        """The smallest boxes around the masks: right and bottom are the last pixel + 1; all 0 for an empty mask."""
        boxes = torch.zeros(len(self), 4, dtype=torch.float32)
        any_in_column, any_in_row = self.tensor.any(dim=1), self.tensor.any(dim=2)
        for index in torch.where(self.nonempty())[0].tolist():
            x, y = torch.where(any_in_column[index])[0], torch.where(any_in_row[index])[0]
            boxes[index] = torch.tensor([int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1])
        return Boxes(boxes)

    @staticmethod
    def from_polygon_masks(polygon_masks: list[list[np.ndarray]], height: int, width: int) -> BitMasks:
        """Draw polygons; one list of them for each mask."""
        masks = [polygons_to_bitmask(polygons, height, width) for polygons in polygon_masks]
        return BitMasks(np.stack(masks) if masks else np.zeros((0, height, width), dtype=bool))
