"""Large-scale jitter: an image at a tenth to twice the size, on a canvas that always is the same.

Source: Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation",
section 3 (LSJ: scales 0.1 to 2.0, then a random crop, or padding with grey).
"""

from __future__ import annotations

import numpy as np

from detectron2.data import transforms as T

#: What a canvas is filled with: the grey between black and white.
GREY = 128


class ScaleJitter(T.Augmentation):
    """Resize so that the image, which as a whole would just fit on a canvas, is ``scale`` times as large.

    Args:
        min_scale, max_scale: between them the scale is drawn.
        size: sides of the square canvas in pixels.
    """

    def __init__(self, min_scale: float, max_scale: float, size: int) -> None:
        super().__init__()
        self.min_scale, self.max_scale, self.size = min_scale, max_scale, size

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The resize of an (H, W, C) image."""
        height, width = image.shape[:2]
        scale = np.random.uniform(self.min_scale, self.max_scale) * self.size / max(height, width)
        return T.ResizeTransform(height, width, max(1, round(height * scale)), max(1, round(width * scale)))


class Pad(T.Augmentation):
    """Put an image into the upper left corner of a square grey canvas; its labels get void around them.

    Args:
        size: sides of the canvas in pixels; no image may be larger.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The padding of an (H, W, C) image."""
        return PadTransform(image.shape[0], image.shape[1], self.size, self.size)


class PadTransform(T.Transform):
    """More pixels on the right and at the bottom: grey in images, 0 in labels.

    Args:
        height, width: of the image.
        new_height, new_width: of the result; not smaller.
    """

    def __init__(self, height: int, width: int, new_height: int, new_width: int) -> None:
        super().__init__()
        self.height, self.width, self.new_height, self.new_width = height, width, new_height, new_width

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(height, width, C) to (new_height, new_width, C)."""
        return self._padded(img, GREY)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Nothing moves."""
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """(height, width) to (new_height, new_width)."""
        return self._padded(segmentation, 0)

    def _padded(self, array: np.ndarray, value: int) -> np.ndarray:
        padded = np.full((self.new_height, self.new_width, *array.shape[2:]), value, array.dtype)
        padded[: self.height, : self.width] = array
        return padded
