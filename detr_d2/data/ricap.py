"""RICAP: pieces of four images, put together to one.

Source: Takahashi et al. 2018, "RICAP: Random Image Cropping and Patching Data Augmentation for Deep CNNs", section 3.
Its images are equally large; here the three others are first resized so that each just covers the first one's size,
and labels are moved with their pixels instead of being mixed by area.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ConfigError
from .segments import Scene

Point = tuple[float, float]


def compose_scenes(scenes: Sequence[Scene], meeting: tuple[int, int], places: Sequence[Point]) -> Scene:
    """Pieces of four scenes in one: upper left, upper right, lower left, lower right.

    A thing is what it was, cut to its piece; two pieces of one image make two things. Stuff of one class is one
    segment, whatever pieces it lies in, as everywhere in panoptic data.

    Args:
        scenes: four; the result is as large as the first, and each of the others is resized, with its aspect ratio, so
            that it just covers that.
        meeting: row and column of the point where the pieces meet; on an edge there are two pieces or one.
        places: for each scene where its piece is taken from: parts, 0 to 1, of the rows and columns there are to spare.

    Returns:
        The scene; only segments that have a pixel are listed.
    """
    height, width = scenes[0].size
    row, column = meeting
    windows = [(0, row, 0, column), (0, row, column, width), (row, height, 0, column), (row, height, column, width)]
    image = np.zeros((height, width, 3), np.uint8)
    numbers = np.zeros((height, width), np.uint16)
    segments: list[dict[str, Any]] = []
    stuff: dict[tuple[int, int], int] = {}
    for scene, (top, bottom, left, right), place in zip(scenes, windows, places, strict=True):
        if top == bottom or left == right:
            continue
        piece, labels = _cut(scene, (bottom - top, right - left), (height, width), place)
        image[top:bottom, left:right] = piece
        table = np.zeros(len(scene.segments) + 1, np.uint16)
        for number in np.flatnonzero(np.bincount(labels.ravel(), minlength=len(table))[1:]):
            table[number + 1] = _number_of(scene.segments[number], segments, stuff)
        numbers[top:bottom, left:right] = table[labels]
    return Scene(image, numbers.astype(np.uint8) if len(segments) < 2**8 else numbers, segments, scenes[0].place)


def _number_of(segment: dict[str, Any], segments: list[dict[str, Any]], stuff: dict[tuple[int, int], int]) -> int:
    """The number of a piece's segment in the whole: a new one, which is listed, or that of stuff of its class."""
    kind = (segment["category_id"], int(segment.get("iscrowd", 0)))
    if not segment["isthing"] and kind in stuff:
        return stuff[kind]
    segments.append({"category_id": kind[0], "isthing": segment["isthing"], "iscrowd": kind[1]})
    if not segment["isthing"]:
        stuff[kind] = len(segments)
    return len(segments)


def _cut(scene: Scene, size: tuple[int, int], canvas: tuple[int, int], place: Point) -> tuple[np.ndarray, np.ndarray]:
    """A piece of (height, width) of a scene that is resized to cover the canvas: pixels and numbers."""
    scale = max(canvas[0] / scene.size[0], canvas[1] / scene.size[1])
    extents = [length / scale for length in size]  # of the piece in the scene's own pixels
    spare = [max(0.0, length - extent) for length, extent in zip(scene.size, extents)]
    corner = [part * length for part, length in zip(place, spare)]
    if scale == 1:
        corner = [float(round(start)) for start in corner]
    rows, columns = (
        np.clip(np.floor(start + (np.arange(count) + 0.5) / scale).astype(int), 0, length - 1)
        for start, count, length in zip(corner, size, scene.size)
    )
    labels = scene.numbers[rows[:, None], columns[None, :]]
    top, left = corner
    bottom, right = min(top + extents[0], scene.size[0]), min(left + extents[1], scene.size[1])
    image = Image.fromarray(np.ascontiguousarray(scene.image))
    piece = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return np.asarray(piece), labels


class Ricap:
    """With a probability, an image is put together from pieces of four; the first gives the size.

    Args:
        prob: how often there are four.
        beta: of the beta distribution of where the pieces meet, as a part of height and width.

    Raises:
        ConfigError: values that make no sense.
    """

    name = "INPUT.RICAP"
    num_others = 3

    def __init__(self, prob: float, beta: float) -> None:
        if not 0 <= prob <= 1 or not 0 < beta < np.inf:
            raise ConfigError(f"INPUT.RICAP.PROB={prob} and BETA={beta}; allowed are 0 to 1, and numbers above 0.")
        self.prob, self.beta = prob, beta

    def __call__(self, scene: Scene, others: Sequence[Scene]) -> Scene:
        """The scene with pieces of three others, at places by chance."""
        height, width = scene.size
        row, column = np.round(np.random.beta(self.beta, self.beta, 2) * [height, width]).astype(int).tolist()
        places = [(float(y), float(x)) for y, x in np.random.uniform(size=(4, 2))]
        return compose_scenes([scene, *others], (row, column), places)
