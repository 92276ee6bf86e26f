"""An image with its ground truth, before augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scene:
    """An image and the segments that it shows.

    Args:
        image: (H, W, 3) uint8.
        numbers: (H, W), uint8 or uint16: 1 + the place of a pixel's segment in ``segments``, or 0 for void.
        segments: what is known of each one: "category_id", "isthing" and, where there is one, "iscrowd".
        place: names the image in messages.
    """

    image: np.ndarray
    numbers: np.ndarray
    segments: list[dict[str, Any]]
    place: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def wanted(self) -> np.ndarray:
        """(M,) bool: the segments that are targets, which crowds are not."""
        return np.array([not segment.get("iscrowd", 0) for segment in self.segments], dtype=bool)
