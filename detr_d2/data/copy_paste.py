"""Copy-paste: things of one image are put into another, where they hide what is behind them.

Source: Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation".
There both images have large-scale jitter before; here the things have a scale, a side and a place of their own, and the
image that they come to is augmented afterwards. Their borders are left as they are, which the paper found to be enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..errors import ConfigError
from .segments import Scene


def paste_things(
    scene: Scene, other: Scene, chosen: Sequence[int], scale: float, place: tuple[float, float], flip: bool
) -> Scene:
    """A scene with things of another in front of it.

    Args:
        scene: gives the size; its segments lose the pixels that are hidden.
        other: where the things come from.
        chosen: which of ``other.segments``, each with a pixel; they keep their places to one another.
        scale: how many times as large they become.
        place: where they come to: parts, 0 to 1, of the rows and columns that their box leaves. A box larger than the
            scene has these parts of what is too much cut off at its top and left.
        flip: whether they are mirrored.

    Returns:
        The scene; only segments that have a pixel are listed.
    """
    labels, pixels = _cut_out(other, chosen, scale, flip)
    image, numbers = scene.image.copy(), scene.numbers.astype(np.uint16)
    rows, columns = (
        _overlap(length, extent, part) for length, extent, part in zip(scene.size, labels.shape, place, strict=True)
    )
    labels, pixels = labels[rows[1], columns[1]], pixels[rows[1], columns[1]]
    pasted = labels > 0
    image[rows[0], columns[0]][pasted] = pixels[pasted]
    numbers[rows[0], columns[0]][pasted] = len(scene.segments) + labels[pasted]
    segments = [*scene.segments, *(other.segments[number] for number in chosen)]
    shown = np.flatnonzero(np.bincount(numbers.ravel(), minlength=len(segments) + 1)[1:])
    table = np.zeros(len(segments) + 1, np.uint8 if len(shown) < 2**8 else np.uint16)
    table[shown + 1] = np.arange(1, len(shown) + 1)
    return Scene(image, table[numbers], [segments[number] for number in shown], scene.place)


def _cut_out(other: Scene, chosen: Sequence[int], scale: float, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """The box of the chosen things, resized: labels (h, w), 1 + the place in ``chosen`` or 0, and pixels (h, w, 3)."""
    table = np.zeros(len(other.segments) + 1, np.uint16)
    table[np.asarray(chosen) + 1] = np.arange(1, len(chosen) + 1)
    labels = table[other.numbers]
    rows, columns = (np.flatnonzero(labels.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels, pixels = labels[box], other.image[box]
    if flip:
        labels, pixels = labels[:, ::-1], pixels[:, ::-1]
    size = [max(1, round(length * scale)) for length in labels.shape]
    taken = [((np.arange(count) + 0.5) * length / count).astype(int) for count, length in zip(size, labels.shape)]
    resized = Image.fromarray(np.ascontiguousarray(pixels)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return labels[taken[0][:, None], taken[1][None, :]], np.asarray(resized)


def _overlap(length: int, extent: int, part: float) -> tuple[slice, slice]:
    """Where a piece of ``extent`` lies in ``length``, and what of the piece that is."""
    start = round(part * (length - extent))
    first, last = max(start, 0), min(start + extent, length)
    return slice(first, last), slice(first - start, last - start)


class CopyPaste:
    """With a probability, about half of another image's things come to an image; crowds and stuff don't.

    Args:
        prob: how often.
        min_scale, max_scale: how large the things become, times what fits the other image onto this one.

    Raises:
        ConfigError: values that make no sense.
    """

    name = "INPUT.COPY_PASTE"
    num_others = 1

    def __init__(self, prob: float, min_scale: float, max_scale: float) -> None:
        if not 0 <= prob <= 1 or not 0 < min_scale <= max_scale < np.inf:
            raise ConfigError(
                f"INPUT.COPY_PASTE.PROB={prob}, MIN_SCALE={min_scale} and MAX_SCALE={max_scale}; allowed are 0 to 1, "
                "and scales above 0 of which the first is not the larger one."
            )
        self.prob, self.min_scale, self.max_scale = prob, min_scale, max_scale

    def __call__(self, scene: Scene, others: Sequence[Scene]) -> Scene:
        """The scene with some things of the other, at a place and of a scale by chance."""
        (other,) = others
        areas = np.bincount(other.numbers.ravel(), minlength=len(other.segments) + 1)[1:]
        is_thing = np.array([segment["isthing"] for segment in other.segments], dtype=bool)
        things = np.flatnonzero(is_thing & other.wanted & (areas > 0))
        chosen = things[np.random.uniform(size=len(things)) < 0.5]
        fit = min(length / its for length, its in zip(scene.size, other.size, strict=True))
        scale = fit * np.random.uniform(self.min_scale, self.max_scale)
        down, across = np.random.uniform(size=2).tolist()
        flip = bool(np.random.uniform() < 0.5)
        if not len(chosen):
            return scene
        return paste_things(scene, other, chosen.tolist(), scale, (down, across), flip)
