"""Images that are made of several: pieces of four put together (RICAP), or things of one pasted into another.

Source: Takahashi et al. 2018, "RICAP: Random Image Cropping and Patching Data Augmentation for Deep CNNs", section 3.
Its images are equally large; here the three others are first resized so that each just covers the first one's size,
and labels are moved with their pixels instead of being mixed by area.
Copy-paste: Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation".
There both images have large-scale jitter before; here the things have a scale, a side and a place of their own, and the
image that they come to is augmented afterwards. Their borders are left as they are, which the paper found to be enough.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from detectron2.config import CfgNode

from ..errors import ConfigError
from .mapper import DetrPanopticDatasetMapper
from .segments import LabelledImage

Point = tuple[float, float]


@dataclass(frozen=True)
class Mix:
    """Makes one scene of several.

    Args:
        name: of its keys in the config.
        prob: how often it is done.
        num_others: how many scenes it takes beside the first.
        make: the first scene, with something of the others; whatever is by chance comes from ``np.random``.
    """

    name: str
    prob: float
    num_others: int
    make: Callable[[LabelledImage, Sequence[LabelledImage]], LabelledImage]


def build_mixes(cfg: CfgNode) -> list[Mix]:
    """What ``INPUT`` asks for, in the order in which it is done; its values are checked already.

    Raises:
        ConfigError: scales that make no sense together.
    """
    ricap, paste = cfg.INPUT.RICAP, cfg.INPUT.COPY_PASTE
    mixes = [Mix("INPUT.RICAP", ricap.PROB, 3, partial(ricap_of, beta=ricap.BETA))] if ricap.ENABLED else []
    if paste.ENABLED:
        if paste.MIN_SCALE > paste.MAX_SCALE:
            raise ConfigError(
                f"INPUT.COPY_PASTE.MIN_SCALE={paste.MIN_SCALE} is above MAX_SCALE={paste.MAX_SCALE}; lower it."
            )
        make = partial(paste_by_chance, min_scale=paste.MIN_SCALE, max_scale=paste.MAX_SCALE)
        mixes.append(Mix("INPUT.COPY_PASTE", paste.PROB, 1, make))
    return mixes


def ricap_of(scene: LabelledImage, others: Sequence[LabelledImage], beta: float) -> LabelledImage:
    """The scene with pieces of three others, at places by chance.

    ``beta`` is that of the beta distribution of where the pieces meet, as a part of height and width.
    """
    height, width = scene.size
    row, column = np.round(np.random.beta(beta, beta, 2) * [height, width]).astype(int).tolist()
    places = [(float(y), float(x)) for y, x in np.random.uniform(size=(4, 2))]
    return compose_scenes([scene, *others], (row, column), places)


def compose_scenes(scenes: Sequence[LabelledImage], meeting: tuple[int, int], places: Sequence[Point]) -> LabelledImage:
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
    return LabelledImage(image, numbers.astype(np.uint8) if len(segments) < 2**8 else numbers, segments, scenes[0].name)


def _number_of(segment: dict[str, Any], segments: list[dict[str, Any]], stuff: dict[tuple[int, int], int]) -> int:
    """The number of a piece's segment in the whole: a new one, which is listed, or that of stuff of its class."""
    kind = (segment["category_id"], int(segment.get("iscrowd", 0)))
    if not segment["isthing"] and kind in stuff:
        return stuff[kind]
    segments.append({"category_id": kind[0], "isthing": segment["isthing"], "iscrowd": kind[1]})
    if not segment["isthing"]:
        stuff[kind] = len(segments)
    return len(segments)


def _cut(
    scene: LabelledImage, size: tuple[int, int], canvas: tuple[int, int], place: Point
) -> tuple[np.ndarray, np.ndarray]:
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


def paste_by_chance(
    scene: LabelledImage, others: Sequence[LabelledImage], min_scale: float, max_scale: float
) -> LabelledImage:
    """The scene with about half of another's things, at a place by chance; crowds and stuff aren't pasted.

    They become ``min_scale`` to ``max_scale`` times as large as what fits the other image onto this one.
    """
    (other,) = others
    areas = np.bincount(other.numbers.ravel(), minlength=len(other.segments) + 1)[1:]
    is_thing = np.array([segment["isthing"] for segment in other.segments], dtype=bool)
    things = np.flatnonzero(is_thing & other.wanted & (areas > 0))
    chosen = things[np.random.uniform(size=len(things)) < 0.5]
    fit = min(length / its for length, its in zip(scene.size, other.size, strict=True))
    scale = fit * np.random.uniform(min_scale, max_scale)
    down, across = np.random.uniform(size=2).tolist()
    flip = bool(np.random.uniform() < 0.5)
    return paste_things(scene, other, chosen.tolist(), scale, (down, across), flip) if len(chosen) else scene


def paste_things(
    scene: LabelledImage,
    other: LabelledImage,
    chosen: Sequence[int],
    scale: float,
    place: tuple[float, float],
    flip: bool,
) -> LabelledImage:
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
    return LabelledImage(image, table[numbers], [segments[number] for number in shown], scene.name)


def _cut_out(other: LabelledImage, chosen: Sequence[int], scale: float, flip: bool) -> tuple[np.ndarray, np.ndarray]:
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


class PackedRecords(Sequence[dict[str, Any]]):
    """Dataset dicts in one tensor, which the processes of a loader share instead of each having a copy."""

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        pickled = [pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL) for record in records]
        self._ends = torch.tensor([len(content) for content in pickled]).cumsum(0)
        content = bytearray(b"".join(pickled))
        # torch makes no tensor of an empty buffer.
        self._bytes = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        start = 0 if index == 0 else int(self._ends[index - 1])
        return pickle.loads(self._bytes[start : int(self._ends[index])].numpy().data)


class MixingMapper:
    """Numbers of a dataset to the model's input, of images that have something of others by chance.

    The first image is the one asked for, which gives the size, file name and image id; the others are any of the
    dataset's.

    Args:
        mapper: reads images, and augments what comes out.
        records: dataset dicts with panoptic ground truth.
        mixes: what is done, in this order, each with its own probability.

    Raises:
        ConfigError: an image without panoptic ground truth.
    """

    def __init__(
        self, mapper: DetrPanopticDatasetMapper, records: Iterable[dict[str, Any]], mixes: Sequence[Mix]
    ) -> None:
        records = list(records)
        boxes_only = next((record for record in records if "segments_info" not in record), None)
        if boxes_only is not None:
            name = mixes[0].name
            raise ConfigError(
                f"{name} needs panoptic ground truth, and {boxes_only['file_name']} has none. "
                f"Set {name}.ENABLED False, or train on panoptic datasets only."
            )
        self.mapper, self.records, self.mixes = mapper, PackedRecords(records), mixes

    def __call__(self, index: int) -> dict[str, Any]:
        """What :class:`DetrPanopticDatasetMapper` gives, of the image with this number; raises as it does."""
        record = self.records[index]
        drawn = [mix for mix in self.mixes if np.random.uniform() < mix.prob]
        if not drawn:
            return self.mapper(record)
        scene = self.mapper.read_labelled(record)
        for mix in drawn:
            others = np.random.randint(len(self.records), size=mix.num_others).tolist()
            scene = mix.make(scene, [self.mapper.read_labelled(self.records[other]) for other in others])
        return self.mapper.to_example(scene, record)
