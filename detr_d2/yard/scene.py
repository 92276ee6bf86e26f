"""Made-up scenes and videos of a construction yard, with exact ground truth for every pixel.

A scene has sky, ground, mostly buildings and plants (stuff), and two to six things standing on the ground, nearer
ones larger and in front. What would show too little of itself is left out, so image and ground truth agree.
In a video things move along smooth paths, leave and come back under their ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from ..errors import ConfigError
from ..labels.run_lengths import compressed, encoded
from . import objects
from .drawing import SUPERSAMPLING, Light, Sprite, stack
from .objects import SHAPES

STUFF_COLORS = {"sky": (120, 180, 250), "ground": (150, 125, 95), "building": (110, 110, 125), "plant": (60, 160, 50)}
STUFF = tuple(STUFF_COLORS)
THINGS = tuple(SHAPES)
COLORS = STUFF_COLORS | {name: shape.color for name, shape in SHAPES.items()}

MIN_WIDTH, MIN_HEIGHT, MAX_SIDE = 64, 48, 4096
MIN_VISIBLE_SHARE = 0.25
MIN_VISIBLE_AREA = 24 / (160 * 128)
"""Smallest visible part of an object, as a share of the image: 24 pixels at 160x128."""
METRE = 0.3
"""A metre in the foreground, as a share of the image's height."""

CATEGORIES: list[dict[str, Any]] = [
    {"id": number, "name": name, "isthing": int(name in THINGS), "color": list(color)}
    for number, (name, color) in enumerate(COLORS.items(), 1)
]
"""Categories of the yard as COCO writes them: stuff first, ids from 1 on."""

Frame = tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]

_SPLITS = {"train": 0, "val": 1}
_YARD, _CAMERA, _NOISE, _MOVERS = 2, 3, 4, 5
"""Random streams of a video's seed; those of ``_SPLITS`` are of scenes."""


@dataclass(frozen=True)
class Scene:
    """An image and its ground truth.

    Args:
        image: (H, W, 3) uint8, RGB.
        segments: (H, W) uint8, index into ``names``.
        names: category of each segment; sky and ground come first, a thing's name once per instance.
        outlines: (N, H, W) bool, each segment's pixels; a thing's also where something nearer hides it. Things that
            come later in ``names`` are nearer.
    """

    image: np.ndarray
    segments: np.ndarray
    names: list[str]
    outlines: np.ndarray


def make_scene(index: int, split: str = "train", seed: int = 0, width: int = 160, height: int = 128) -> Scene:
    """Make the scene of this index; the same arguments always give the same scene.

    Args:
        index: number of the scene in its split.
        split: ``"train"`` or ``"val"``; their random streams have nothing in common.
        seed: of the whole dataset.
        width, height: of the image, in pixels; what it shows is drawn for them and as sharp in large images.

    Raises:
        ConfigError: a size that is too small or too large, or another split.
    """
    if split not in _SPLITS:
        raise ConfigError(f"split={split!r}; allowed are {', '.join(map(repr, _SPLITS))}.")
    rng = np.random.default_rng([seed, _SPLITS[split], index])
    yard = Yard(rng, width, height)
    sprites = yard.keep_visible([*yard.scenery, *yard.things(rng)])
    names, numbers, outlines = ["sky", "ground"], [0, 1], {}
    for sprite in sprites:
        if sprite.category in THINGS:
            outlines[len(names)] = stack([sprite], width, height) > 0
        if sprite.category in THINGS or sprite.category not in names:
            names.append(sprite.category)
        numbers.append(len(names) - 1 if sprite.category in THINGS else names.index(sprite.category))
    segments = yard.segments(sprites, numbers)
    whole = np.stack([outlines.get(number, segments == number) for number in range(len(names))])
    return Scene(yard.photograph(sprites, rng, rng), segments, names, whole)


class Yard:
    """An empty yard under a sun, in images of one size: its ``scenery``, and how things are drawn and seen in it."""

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        if width < MIN_WIDTH or height < MIN_HEIGHT or max(width, height) > MAX_SIDE:
            allowed = f"{MIN_WIDTH}x{MIN_HEIGHT} to {MAX_SIDE}x{MAX_SIDE} pixels"
            raise ConfigError(f"size {width}x{height}; allowed are {allowed}.")
        self.width, self.height = width, height
        self._light = Light(rng.uniform(-1, 1), rng.uniform(0.25, 1.0))
        self._horizon = rng.uniform(0.3, 0.46) * height
        self._backdrop, self._is_ground = objects.paint_backdrop(rng, width, height, self._horizon)
        side = rng.choice([-1, 1])
        self.scenery = [*self._buildings(rng, side), *self._plants(rng, -side)]

    def _buildings(self, rng: np.random.Generator, side: float) -> list[Sprite]:
        """None to two buildings along the horizon, next to each other, on one ``side``: -1 left, 1 right."""
        unit, sprites = self.height / 128, []
        x = (0.5 + side * rng.uniform(0.1, 0.3)) * self.width
        for _ in range(rng.choice([0, 1, 2], p=[0.1, 0.5, 0.4])):
            wide, tall = rng.uniform(54, 84), rng.uniform(0.6, 0.92) * self._horizon / unit
            sprite = Sprite("building", self._light, (wide * 0.85 + 4, tall + 4, 4), unit)
            draw = (objects.draw_block, objects.draw_shed, objects.draw_frame)[rng.choice(3, p=[0.5, 0.25, 0.25])]
            draw(sprite, rng, wide, min(tall, wide * 0.7) if draw is objects.draw_shed else tall)
            base = self._horizon + rng.uniform(0.015, 0.04) * self.height
            sprites.append(sprite.place(x, base, rng, 0.02))
            x += side * wide * rng.uniform(0.9, 1.1) * unit
        return sorted(sprites, key=lambda sprite: sprite.base)

    def _plants(self, rng: np.random.Generator, side: float) -> list[Sprite]:
        """Mostly a thicket on one ``side``: trees with bushes at their feet, behind things, in front of buildings."""
        unit, sprites = self.height / 128, []
        if rng.random() < 0.1:
            return []
        x = (0.5 + side * rng.uniform(0.02, 0.2)) * self.width
        for _ in range(rng.integers(2, 5)):
            tree, bush = rng.uniform((24, 36), (36, 54)), rng.uniform((26, 18), (36, 26))
            base = self._horizon + rng.uniform(0.03, 0.07) * self.height
            for wide, tall in (tree, bush)[int(rng.random() < 0.2) :]:
                sprite = Sprite("plant", self._light, (wide * 0.75, tall * 1.15, tall * 0.15), unit)
                objects.draw_plant(sprite, rng, wide, tall)
                sprites.append(sprite.place(x, base, rng, 0.07))
            x += side * rng.uniform(14, 24) * unit
        return sprites

    def things(self, rng: np.random.Generator) -> list[Sprite]:
        """Two to six things of two to five categories, not quite on top of one another, the farthest first."""
        sprites: list[Sprite] = []
        taken: list[tuple[float, float, float]] = []
        palette = rng.permutation(len(THINGS))[: rng.integers(2, 6)]
        for _ in range(rng.integers(2, 7)):
            name = THINGS[rng.choice(palette)]
            for _ in range(12):
                nearness, x = rng.uniform(0.16, 1.0), rng.uniform(0.04, 0.96) * self.width
                base, metre = self._ground(nearness)
                room = SHAPES[name].extent[0] * 0.62 * metre
                if all(abs(x - x1) > 0.62 * (room + r1) or abs(base - y1) > 0.22 * self.height for x1, y1, r1 in taken):
                    taken.append((x, base, room))
                    sprites.append(self.thing(rng, name, x, nearness))
                    break
        return sorted(sprites, key=lambda sprite: sprite.base)

    def thing(self, rng: np.random.Generator, name: str, x: float, nearness: float) -> Sprite:
        """A thing with its foot at column ``x``; ``nearness`` is 0 at the horizon and 1 in the foreground."""
        base, metre = self._ground(nearness)
        sprite = Sprite(name, self._light, SHAPES[name].extent, metre)
        SHAPES[name].draw(sprite, rng)
        return sprite.place(x, base, rng, 0.03)

    def _ground(self, nearness: float) -> tuple[float, float]:
        """Row of the ground, and pixels of a metre there."""
        base = self._horizon + nearness * (0.97 * self.height - self._horizon)
        return base, (0.45 + 0.55 * nearness) * min(self.height, 0.8 * self.width) * METRE

    def keep_visible(self, sprites: list[Sprite]) -> list[Sprite]:
        """Leave out what shows too little of itself, until all that is left shows enough."""
        least = max(8.0, MIN_VISIBLE_AREA * self.width * self.height)
        areas = np.bincount(stack(sprites, self.width, self.height).ravel(), minlength=len(sprites) + 1)[1:]
        kept = [one for one, area in zip(sprites, areas) if area >= max(least, MIN_VISIBLE_SHARE * one.area)]
        return kept if len(kept) == len(sprites) else self.keep_visible(kept)

    def segments(self, sprites: Sequence[Sprite], numbers: Sequence[int]) -> np.ndarray:
        """What each pixel shows, (H, W) uint8: of ``numbers``, which are those of sky, ground and each sprite."""
        shown = stack(sprites, self.width, self.height)
        return np.array(numbers, np.uint8)[np.where(shown > 0, shown + 1, self._is_ground)]

    def photograph(self, sprites: Sequence[Sprite], rng: np.random.Generator, noise: np.random.Generator) -> np.ndarray:
        """What a camera records of sprites, the farthest first: (H, W, 3) uint8; ``rng`` decides its settings."""
        pixels = np.asarray(self._paint(sprites), dtype=np.float32)
        rows = np.linspace(-1, 1, self.height, dtype=np.float32)[:, None]
        columns = np.linspace(-1, 1, self.width, dtype=np.float32)[None]
        rim = 1 - rng.uniform(0, 0.12) * (rows**2 + columns**2) / 2
        warmth = rng.uniform(-0.06, 0.06)
        balance = np.array([1 + warmth, 1, 1 - warmth], np.float32) * rng.uniform(0.78, 1.1)
        grain = noise.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(2, 6)
        return (pixels * (rim[:, :, None] * balance) + grain).clip(0, 255).astype(np.uint8)

    def _paint(self, sprites: Sequence[Sprite]) -> Image.Image:
        """The yard with sprites, each thing's shadow on the ground before the thing."""
        size = (self.width * SUPERSAMPLING, self.height * SUPERSAMPLING)
        canvas = Image.fromarray(self._backdrop).resize(size, Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(canvas, "RGBA")
        for sprite in sprites:
            if sprite.category in THINGS:
                self._cast_shadow(draw, sprite)
            canvas.paste(sprite.image, sprite.corner, sprite.mask)
        return canvas.reduce(SUPERSAMPLING)

    def _cast_shadow(self, draw: ImageDraw.ImageDraw, sprite: Sprite) -> None:
        left, _, right, _ = (sprite.corner[0] + side for side in sprite.mask.getbbox() or (0, 0, 0, 0))
        base, nearness = sprite.base * SUPERSAMPLING, (sprite.base - self._horizon) / (self.height - self._horizon)
        metre = (0.45 + 0.55 * nearness) * self.height * METRE * SUPERSAMPLING
        slip, depth = -self._light.side * SHAPES[sprite.category].shadow * metre, 0.16 * metre
        opacity = int(40 + 75 * self._light.strength)
        for spread, share in ((0.08 * metre, 0.45), (0.0, 0.55)):
            low, high = base + 0.5 * spread, base - depth - spread
            foot = [(left - spread, low), (right + spread, low)]
            head = [(right + slip + spread, high), (left + slip - spread, high)]
            draw.polygon([*foot, *head], fill=(18, 16, 24, int(opacity * share)))


def segment_ids(names: Iterable[str]) -> list[int]:
    """Ids in a panoptic PNG for segments of these categories, each close to the category's colour."""
    colors = [COLORS[name] for name in names]
    return [min(red, 230) + number + 256 * green + 65536 * blue for number, (red, green, blue) in enumerate(colors)]


def segments_info(segments: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The segments that are seen, as COCO lists them, each with its mask; ``segments``, (H, W), index ``names``."""
    found, category_ids = [], {category["name"]: category["id"] for category in CATEGORIES}
    for number, (name, segment_id) in enumerate(zip(names, segment_ids(names))):
        shape = shape_of(segments == number)
        if shape["area"]:
            found.append({"id": segment_id, "category_id": category_ids[name], "iscrowd": 0, **shape})
    return found


def shape_of(mask: np.ndarray) -> dict[str, Any]:
    """Area, box and run lengths of a mask (H, W), as COCO writes them."""
    runs = encoded(mask)
    bbox = [int(side) for side in coco_mask.toBbox(runs)]
    return {"area": int(coco_mask.area(runs)), "bbox": bbox, "segmentation": compressed(runs)}


def without_mask(segment: dict[str, Any]) -> dict[str, Any]:
    """A segment as a panoptic JSON has it, whose masks are in PNGs."""
    return {key: value for key, value in segment.items() if key != "segmentation"}


def yard_video(frames: int, size: tuple[int, int] = (160, 128), seed: int = 0) -> Iterator[Frame]:
    """Make a video of a yard in which three to six things move; sun, camera, buildings and plants stand still.

    The same arguments always give the same video, and a shorter one is the beginning of a longer one.

    Args:
        frames: how many; a thing goes to and fro in 150 to 300 of them.
        size: width and height of the images, in pixels.
        seed: a whole number from 0 on; another one gives another video.

    Returns:
        For each frame the image, (H, W, 3) uint8 RGB; its map of segment ids, (H, W) int32; and the segments that it
        shows, as in COCO's panoptic JSON, with categories of :data:`CATEGORIES`. A segment's id is the same in all
        frames, and no other segment ever has it. No pixel is void.

    Raises:
        ConfigError: a size that is too small or too large.
    """
    yard = Yard(_stream(seed, _YARD), *size)
    movers = range(int(_stream(seed, _MOVERS).integers(3, 7)))
    return (_frame(yard, movers, seed, frame) for frame in range(frames))


def _frame(yard: Yard, movers: range, seed: int, frame: int) -> Frame:
    names = list(STUFF)
    shown = [(sprite, STUFF.index(sprite.category)) for sprite in yard.scenery]
    things = []
    for mover in movers:
        name, x, nearness = _moved(_stream(seed, _MOVERS, mover + 1), frame, leaves=mover == 0)
        look = _stream(seed, _MOVERS, mover + 1, 1)  # the same in each frame, so the thing looks the same
        things.append((yard.thing(look, name, x * yard.width, nearness), len(names)))
        names.append(name)
    shown += sorted(things, key=lambda thing: thing[0].base)
    sprites, numbers = zip(*shown)
    segments = yard.segments(sprites, (0, 1, *numbers))
    image = yard.photograph(sprites, _stream(seed, _CAMERA), noise=_stream(seed, _NOISE, frame))
    ids = np.array(segment_ids(names), np.int32)[segments]
    return image, ids, [without_mask(one) for one in segments_info(segments, names)]


def _moved(rng: np.random.Generator, frame: int, leaves: bool) -> tuple[str, float, float]:
    """A thing's name and, in this frame, its column as a share of the image's width and its nearness, 0 to 1.

    One that ``leaves`` goes out of the image on both sides, others may.
    """
    name = THINGS[rng.integers(len(THINGS))]
    centre, far = rng.uniform(0.35, 0.65), rng.uniform(0.1, 0.9)
    near = np.sort(rng.uniform(0.2, 1.0, 2))
    x = _swing(rng, frame, centre, 1.0 if leaves else far)
    return name, x, _swing(rng, frame, near.mean(), np.ptp(near) / 2)


def _swing(rng: np.random.Generator, frame: int, centre: float, reach: float) -> float:
    """A place on a smooth path to and fro, ``reach`` to either side of its centre, in 150 to 300 frames."""
    period, phase = rng.uniform(150, 300), rng.uniform(0, 2 * np.pi)
    return float(centre + reach * np.sin(2 * np.pi * frame / period + phase))


def _stream(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, *stream])
