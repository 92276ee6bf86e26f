"""Other light, another camera: brightness, contrast, saturation and hue by chance.

Source: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section 4.1, on why
colours are varied; the four changes and their ranges are those of torchvision's ``ColorJitter``.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

from detectron2.data import transforms as T

_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


class ColorTransform(T.Transform):
    """Changes of colour, one after the other; nothing moves, so that targets stay as they are.

    Args:
        changes: names and amounts: "brightness", "contrast" and "saturation" by a factor (1 changes nothing), "hue" by
            a part of the colour circle (0 changes nothing).
        is_bgr: the order of the image's channels.
    """

    def __init__(self, changes: list[tuple[str, float]], is_bgr: bool = False) -> None:
        super().__init__()
        self.changes, self.is_bgr = changes, is_bgr

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 to the same."""
        image = Image.fromarray(np.ascontiguousarray(img[:, :, ::-1] if self.is_bgr else img))
        for name, amount in self.changes:
            image = _turn_hue(image, amount) if name == "hue" else _ENHANCERS[name](image).enhance(amount)
        changed = np.asarray(image)
        return changed[:, :, ::-1] if self.is_bgr else changed

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Nothing moves."""
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Labels have no colour."""
        return segmentation


class ColorJitter(T.Augmentation):
    """Changes of colour by chance, in an order by chance.

    Args:
        prob: how often an image is changed.
        brightness, contrast, saturation: a factor is drawn from 1 - value ... 1 + value, not below 0.
        hue: a part of the colour circle is drawn from -value ... value; at most 0.5.
        is_bgr: the order of the images' channels.
    """

    def __init__(
        self, prob: float, brightness: float, contrast: float, saturation: float, hue: float, is_bgr: bool = False
    ) -> None:
        super().__init__()
        self.prob, self.hue, self.is_bgr = prob, hue, is_bgr
        self.spreads = {"brightness": brightness, "contrast": contrast, "saturation": saturation}

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The changes for one image."""
        if np.random.uniform() >= self.prob:
            return T.NoOpTransform()
        changes = [
            (name, np.random.uniform(max(0.0, 1 - spread), 1 + spread))
            for name, spread in self.spreads.items()
            if spread > 0
        ]
        if self.hue > 0:
            changes.append(("hue", np.random.uniform(-self.hue, self.hue)))
        return ColorTransform([changes[i] for i in np.random.permutation(len(changes))], self.is_bgr)


def _turn_hue(image: Image.Image, part: float) -> Image.Image:
    """Every colour moved along the colour circle; greys stay."""
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue).astype(np.int16) + round(part * 256)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")
