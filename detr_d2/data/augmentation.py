"""How images are flipped, cropped, resized and coloured before the model sees them.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", section 4 ("Technical details").
Large-scale jitter: Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
Segmentation", section 3 (scales 0.1 to 2.0, then a random crop, or padding with grey). Colours: Krizhevsky et al. 2012,
"ImageNet Classification with Deep Convolutional Neural Networks", section 4.1, changed as by torchvision's ColorJitter.
"""

from __future__ import annotations

import numpy as np
import torchvision.transforms.functional as F
from PIL import Image

from detectron2.config import CfgNode
from detectron2.data import transforms as T

from ..config import check_values
from ..errors import ConfigError

#: What a canvas is filled with: the grey between black and white.
GREY = 128


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's, which makes nothing of a very thin image; here each side keeps a pixel."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The resize of an (H, W, C) image."""
        found = super().get_transform(image)
        if not isinstance(found, T.ResizeTransform) or min(found.new_h, found.new_w) >= 1:
            return found
        return T.ResizeTransform(found.h, found.w, max(1, found.new_h), max(1, found.new_w), found.interp)


class ScaleJitter(T.Augmentation):
    """Resize so that the image, which as a whole would just fit on a square canvas, is ``scale`` times as large.

    The scale is drawn between the two that are given; ``size`` is the canvas's side in pixels.
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
    """Put an image into the upper left corner of a square grey canvas of this side; its labels get void around them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The padding of an (H, W, C) image."""
        height, width = image.shape[:2]
        return T.PadTransform(0, 0, self.size - width, self.size - height, width, height, GREY, 0)


class ColorTransform(T.NoOpTransform):
    """Changes of colour, one after the other; nothing moves, so that targets stay as they are.

    They are names and amounts: "brightness", "contrast" and "saturation" by a factor (1 changes nothing), "hue" by a
    part of the circle of colours (0 changes nothing).
    """

    def __init__(self, changes: list[tuple[str, float]], is_bgr: bool = False) -> None:
        super().__init__()
        self.changes, self.is_bgr = changes, is_bgr

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 to the same."""
        image = Image.fromarray(np.ascontiguousarray(img[:, :, ::-1] if self.is_bgr else img))
        for name, amount in self.changes:
            image = getattr(F, f"adjust_{name}")(image, amount)
        changed = np.asarray(image)
        return changed[:, :, ::-1] if self.is_bgr else changed

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
        self.prob, self.is_bgr = prob, is_bgr
        ranges = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        self.ranges = {name: (max(0.0, 1 - spread), 1 + spread) for name, spread in ranges.items() if spread > 0}
        self.ranges.update({"hue": (-hue, hue)} if hue > 0 else {})

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The changes for one image."""
        if np.random.uniform() >= self.prob:
            return T.NoOpTransform()
        changes = [(name, np.random.uniform(*limits)) for name, limits in self.ranges.items()]
        return ColorTransform([changes[i] for i in np.random.permutation(len(changes))], self.is_bgr)


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """DETR's augmentation, from the config.

    Training: a flip (``INPUT.RANDOM_FLIP``); with probability ``INPUT.DETR_CROP.PROB`` a resize to
    ``INPUT.DETR_CROP.RESIZE_SIZES`` and a crop whose sides lie between ``MIN_SIZE`` and ``MAX_SIZE``; a resize of the
    short side to one of ``INPUT.MIN_SIZE_TRAIN``, the long one at most ``INPUT.MAX_SIZE_TRAIN``. Testing: the resize to
    ``INPUT.MIN_SIZE_TEST`` only. A size of 0 means no resize. Detectron2's ``INPUT.CROP`` comes before all others.

    On request ``INPUT.LSJ``, large-scale jitter, takes the place of crop and resize, and ``INPUT.COLOR_JITTER`` comes
    after them. ``INPUT.RICAP`` and ``INPUT.COPY_PASTE`` take several images; see ``build_train_mapper``.

    Raises:
        ConfigError: sizes or probabilities that make no sense.
    """
    check_values(cfg, "INPUT.")
    if not is_train:
        return _resize((cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST, "choice", "INPUT.MIN_SIZE_TEST")
    augmentations: list[T.Augmentation] = []
    if cfg.INPUT.CROP.ENABLED:
        augmentations.append(_detectron2_crop(cfg.INPUT.CROP))
    if cfg.INPUT.RANDOM_FLIP != "none":
        vertical = cfg.INPUT.RANDOM_FLIP == "vertical"
        augmentations.append(T.RandomFlip(horizontal=not vertical, vertical=vertical))
    color, jitter = list[T.Augmentation](), cfg.INPUT.COLOR_JITTER
    if jitter.ENABLED:
        amounts = (jitter.BRIGHTNESS, jitter.CONTRAST, jitter.SATURATION, jitter.HUE)
        color.append(ColorJitter(jitter.PROB, *amounts, is_bgr=cfg.INPUT.FORMAT == "BGR"))
    if cfg.INPUT.LSJ.ENABLED:
        return augmentations + _scale_jitter(cfg.INPUT.LSJ, color)
    if cfg.INPUT.DETR_CROP.ENABLED:
        augmentations.append(_crop(cfg.INPUT.DETR_CROP))
    sizes, sampling = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    return augmentations + _resize(sizes, cfg.INPUT.MAX_SIZE_TRAIN, sampling, "INPUT.MIN_SIZE_TRAIN") + color


def _scale_jitter(lsj: CfgNode, color: list[T.Augmentation]) -> list[T.Augmentation]:
    """Resize by a scale of chance, crop what is beyond the canvas, fill what is left of it."""
    if lsj.MIN_SCALE > lsj.MAX_SCALE:
        raise ConfigError(f"INPUT.LSJ.MIN_SCALE={lsj.MIN_SCALE} is above MAX_SCALE={lsj.MAX_SCALE}; lower it.")
    jitter = [ScaleJitter(lsj.MIN_SCALE, lsj.MAX_SCALE, lsj.SIZE), T.RandomCrop("absolute", (lsj.SIZE, lsj.SIZE))]
    return jitter + color + ([Pad(lsj.SIZE)] if lsj.PAD else [])


def _crop(crop: CfgNode) -> T.Augmentation:
    """DETR's random crop, half the time or as often as the config says."""
    if crop.MIN_SIZE > crop.MAX_SIZE:
        raise ConfigError(
            f"INPUT.DETR_CROP.MIN_SIZE={crop.MIN_SIZE} and MAX_SIZE={crop.MAX_SIZE}; the first can't be the larger."
        )
    steps: list[T.Augmentation] = []
    if crop.RESIZE_SIZES:
        steps += _resize(crop.RESIZE_SIZES, _NO_LIMIT, "choice", "INPUT.DETR_CROP.RESIZE_SIZES")
    steps.append(T.RandomCrop("absolute_range", (crop.MIN_SIZE, crop.MAX_SIZE)))
    return T.RandomApply(T.AugmentationList(steps), prob=crop.PROB)


def _detectron2_crop(crop: CfgNode) -> T.Augmentation:
    """Detectron2's crop, with the sizes that it takes."""
    height, width = crop.SIZE
    if crop.TYPE.startswith("relative") and max(height, width) > 1:
        raise ConfigError(
            f"INPUT.CROP.SIZE={crop.SIZE} with TYPE={crop.TYPE}; allowed are parts of the image, up to 1."
        )
    if crop.TYPE.startswith("absolute") and not all(isinstance(size, int) for size in (height, width)):
        raise ConfigError(f"INPUT.CROP.SIZE={crop.SIZE} with TYPE={crop.TYPE}; allowed are whole numbers of pixels.")
    if crop.TYPE == "absolute_range" and height > width:
        raise ConfigError(f"INPUT.CROP.SIZE={crop.SIZE} with TYPE={crop.TYPE}; the first may not be above the second.")
    return T.RandomCrop(crop.TYPE, crop.SIZE)


_NO_LIMIT = 100_000


def _resize(sizes: tuple[int, ...] | list[int], longest: int, sampling: str, key: str) -> list[T.Augmentation]:
    """A resize of the short side, or nothing where the size is 0."""
    sizes = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    if sizes == (0,):
        return []
    if not all(sizes):
        raise ConfigError(f"{key}={sizes}; allowed are pixels from 1 on, or 0 alone for no resize.")
    if sampling == "range" and (len(sizes) != 2 or sizes[0] > sizes[1]):
        raise ConfigError(f"{key}={sizes} with INPUT.MIN_SIZE_TRAIN_SAMPLING=range; give the smallest and the largest.")
    return [ResizeShortestEdge(sizes, longest, sampling)]
