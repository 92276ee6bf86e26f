"""An independently written subset of Detectron2's API; not Detectron2.

An augmentation looks at its input and chooses, often by chance (``numpy.random``), a transform, which is then applied
to the image and to all that belongs to it.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from fvcore.transforms import transform as _fvcore
from fvcore.transforms.transform import Transform, TransformList
from PIL import Image

CropTransform = _fvcore.CropTransform
HFlipTransform = _fvcore.HFlipTransform
NoOpTransform = _fvcore.NoOpTransform
PadTransform = _fvcore.PadTransform


class ResizeTransform(Transform):
    """Resize uint8 images from (h, w) to (new_h, new_w) pixels.

    ``interp`` is one of PIL's methods, bilinear by default; labels always take the nearest pixel's.
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int | None = None) -> None:
        super().__init__()
        self.h, self.w, self.new_h, self.new_w = h, w, new_h, new_w
        self.interp = Image.Resampling.BILINEAR if interp is None else Image.Resampling(interp)

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Resize an (H, W) or (H, W, C) array; AssertionError if its size isn't (h, w) or its type uint8."""
        found, wanted = (img.dtype, *img.shape[:2]), (np.uint8, self.h, self.w)
        assert found == wanted, f"expected type and size {wanted}, got {found}"
        method = self.interp if interp is None else Image.Resampling(interp)
        image = Image.fromarray(img.squeeze(2) if img.shape[2:] == (1,) else img)
        resized = np.asarray(image.resize((self.new_w, self.new_h), method))
        return resized.reshape(self.new_h, self.new_w, *img.shape[2:])

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Scale (N, 2) float x and y, in place."""
        coords[:, 0] = coords[:, 0] * (self.new_w * 1.0 / self.w)
        coords[:, 1] = coords[:, 1] * (self.new_h * 1.0 / self.h)
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Resize labels, each pixel taking the nearest one's."""
        return self.apply_image(segmentation, interp=Image.Resampling.NEAREST)


class AugInput:
    """An image (H, W) or (H, W, C), as augmentations take it; what belongs to it gets their transforms later."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def transform(self, tfm: Transform) -> None:
        """Replace the image by the transformed one."""
        self.image = tfm.apply_image(self.image)


class Augmentation:
    """Base of all augmentations: a subclass has ``get_transform(self, image)``."""

    def get_transform(self, image: np.ndarray) -> Transform:
        """Choose the transform for this image."""
        raise NotImplementedError

    def __call__(self, aug_input: Any) -> Transform:
        """Choose a transform, apply it to ``aug_input`` in place and return it."""
        transform = self.get_transform(aug_input.image)
        aug_input.transform(transform)
        return transform


class AugmentationList(Augmentation):
    """Augmentations, one after the other; each sees what the one before it made."""

    def __init__(self, augs: Sequence[Augmentation]) -> None:
        self.augs = list(augs)

    def __call__(self, aug_input: Any) -> TransformList:
        return TransformList([aug(aug_input) for aug in self.augs])


class RandomApply(Augmentation):
    """An augmentation that is applied with a probability of ``prob``."""

    def __init__(self, tfm_or_aug: Augmentation, prob: float = 0.5) -> None:
        self.aug, self.prob = tfm_or_aug, prob

    def __call__(self, aug_input: Any) -> Transform:
        return self.aug(aug_input) if np.random.uniform() < self.prob else NoOpTransform()


class RandomFlip(Augmentation):
    """Mirror the image with a probability of ``prob``: left and right, or top and bottom if ``vertical``."""

    def __init__(self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False) -> None:
        assert horizontal != vertical, f"Set one of horizontal and vertical; both are {horizontal}."
        self.prob, self.horizontal = prob, horizontal

    def get_transform(self, image: np.ndarray) -> Transform:
        if np.random.uniform() >= self.prob:
            return NoOpTransform()
        return HFlipTransform(image.shape[1]) if self.horizontal else _fvcore.VFlipTransform(image.shape[0])


class ResizeShortestEdge(Augmentation):
    """Resize so that the shorter side has a chosen length, but the longer one at most ``max_size``.

    Args:
        short_edge_length: a length in pixels, the lengths to choose from ("choice"), or the least and the greatest
            one ("range"). 0 leaves the image as it is.
        interp: one of PIL's methods.
    """

    def __init__(
        self, short_edge_length: Any, max_size: int = sys.maxsize, sample_style: str = "range", interp: int = 2
    ) -> None:
        assert sample_style in ("range", "choice"), sample_style
        lengths = [short_edge_length] * 2 if isinstance(short_edge_length, int) else list(short_edge_length)
        assert sample_style == "choice" or len(lengths) == 2, f"'range' takes two values, got {lengths}."
        self.short_edge_length, self.max_size, self.sample_style, self.interp = lengths, max_size, sample_style, interp

    def get_transform(self, image: np.ndarray) -> Transform:
        lengths, (height, width) = self.short_edge_length, image.shape[:2]
        is_range = self.sample_style == "range"
        short = np.random.randint(lengths[0], lengths[1] + 1) if is_range else np.random.choice(lengths)
        if short == 0:
            return NoOpTransform()
        # Each step rounds as Detectron2's does, so that sizes are the same to the pixel.
        scale = short * 1.0 / min(height, width)
        new_height, new_width = (short * 1.0, scale * width) if height < width else (scale * height, short * 1.0)
        if max(new_height, new_width) > self.max_size:
            shrink = self.max_size / max(new_height, new_width)
            new_height, new_width = new_height * shrink, new_width * shrink
        return ResizeTransform(height, width, int(new_height + 0.5), int(new_width + 0.5), self.interp)


class RandomCrop(Augmentation):
    """Cut out a rectangle at a random place.

    Args:
        crop_type: what ``crop_size`` means: "relative": fractions of height and width; "relative_range": the least
            fractions, the greatest being 1; "absolute": height and width in pixels; "absolute_range": least and
            greatest length of both sides in pixels. An image that is smaller keeps its size.
    """

    def __init__(self, crop_type: str, crop_size: Any) -> None:
        assert crop_type in ("relative_range", "relative", "absolute", "absolute_range"), crop_type
        self.crop_type = crop_type
        self.crop_size = crop_size

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = self._crop_size(*image.shape[:2])
        top = np.random.randint(image.shape[0] - height + 1)
        left = np.random.randint(image.shape[1] - width + 1)
        return CropTransform(left, top, width, height)

    def _crop_size(self, height: int, width: int) -> tuple[int, int]:
        first, second = self.crop_size
        if self.crop_type == "absolute":
            return min(first, height), min(second, width)
        if self.crop_type == "absolute_range":
            crop_height = np.random.randint(min(height, first), min(height, second) + 1)
            return crop_height, np.random.randint(min(width, first), min(width, second) + 1)
        if self.crop_type == "relative_range":
            least = np.asarray(self.crop_size, dtype=np.float32)
            first, second = least + np.random.rand(2) * (1 - least)
        return int(height * first + 0.5), int(width * second + 0.5)
