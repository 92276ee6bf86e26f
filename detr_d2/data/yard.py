"""Small made-up scenes of a construction yard, with the truth about every pixel.

A scene has sky, ground, mostly buildings and plants (stuff), and two to six things standing on the ground, nearer
ones larger and in front. What would show too little of itself is taken out of the picture, so picture and truth agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from . import yard_scenery as scenery
from .yard_pen import SUPERSAMPLING, Light, Pen, Sprite
from .yard_shapes import SHAPES

STUFF_COLORS = {"sky": (120, 180, 250), "ground": (150, 125, 95), "building": (110, 110, 125), "plant": (60, 160, 50)}
STUFF = tuple(STUFF_COLORS)
THINGS = tuple(SHAPES)

MIN_WIDTH, MIN_HEIGHT, MAX_SIDE = 64, 48, 2048
MIN_VISIBLE_SHARE = 0.25
MIN_VISIBLE_AREA = 24 / (160 * 128)
"""Smallest visible part of an object, as a share of the picture: 24 pixels at 160x128."""

METRE = 0.3
"""Size of a thing's unit in the foreground, as a share of the picture's height."""

_SPLITS = {"train": 0, "val": 1}


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it.

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
        width, height: of the picture, in pixels.

    Raises:
        ValueError: a size that is too small or too large, or another split.
    """
    if split not in _SPLITS:
        raise ValueError(f"split={split!r}; allowed are {', '.join(map(repr, _SPLITS))}.")
    if width < MIN_WIDTH or height < MIN_HEIGHT or max(width, height) > MAX_SIDE:
        raise ValueError(
            f"size {width}x{height}; allowed are {MIN_WIDTH}x{MIN_HEIGHT} to {MAX_SIDE}x{MAX_SIDE} pixels."
        )
    rng = np.random.default_rng([seed, _SPLITS[split], index])
    light = Light(float(rng.uniform(-1, 1)), float(rng.uniform(0.25, 1.0)))
    horizon = float(rng.uniform(0.3, 0.46) * height)
    backdrop, is_ground = _backdrop(rng, width, height, horizon)
    side = float(rng.choice([-1, 1]))
    sprites = _buildings(rng, light, width, height, horizon, side) + _plants(rng, light, width, height, horizon, -side)
    sprites += sorted(_things(rng, light, width, height, horizon), key=lambda sprite: sprite.base)
    sprites = _keep_visible(sprites, width, height)
    segments, names = _label(sprites, is_ground)
    picture = _paint(backdrop, sprites, light, height, horizon)
    return Scene(_photograph(picture, rng), segments, names, _outlines(sprites, segments, names))


def _backdrop(rng: np.random.Generator, width: int, height: int, horizon: float) -> tuple[Image.Image, np.ndarray]:
    """The empty yard at canvas size, and which pixels (H, W) are ground."""
    line = scenery.horizon_line(rng, width, horizon, height)
    is_ground = np.arange(height)[:, None] >= line[None]
    deepest = int(line.max()) + 1
    pixels = scenery.paint_ground(rng, height, width, int(line.min()))
    sky = scenery.paint_sky(rng, deepest, width)
    pixels[:deepest] = np.where(is_ground[:deepest, :, None], pixels[:deepest], sky)
    small = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    canvas = small.resize((width * SUPERSAMPLING, height * SUPERSAMPLING), Image.Resampling.NEAREST)
    return canvas, is_ground


def _buildings(
    rng: np.random.Generator, light: Light, width: int, height: int, horizon: float, side: float
) -> list[Sprite]:
    """None to two buildings along the horizon, next to each other, on one ``side`` of the yard: -1 left, 1 right."""
    unit, sprites = height / 128, []
    x = (0.5 + side * rng.uniform(0.1, 0.3)) * width
    for _ in range(int(rng.choice([0, 1, 2], p=[0.1, 0.5, 0.4]))):
        wide, tall = rng.uniform(54, 84), rng.uniform(0.6, 0.92) * horizon / unit
        pen = Pen(wide * 0.85 + 4, tall + 4, 4, unit * SUPERSAMPLING)
        draw = (scenery.draw_block, scenery.draw_shed, scenery.draw_frame)[rng.choice(3, p=[0.5, 0.25, 0.25])]
        draw(pen, rng, light, wide, min(tall, wide * 0.7) if draw is scenery.draw_shed else tall)
        base = horizon + rng.uniform(0.015, 0.04) * height
        sprites.append(pen.sprite("building", x * SUPERSAMPLING, base * SUPERSAMPLING, rng, 0.02))
        x += side * wide * rng.uniform(0.9, 1.1) * unit
    return sorted(sprites, key=lambda sprite: sprite.base)


def _plants(
    rng: np.random.Generator, light: Light, width: int, height: int, horizon: float, side: float
) -> list[Sprite]:
    """Mostly a thicket on one ``side``: trees with bushes at their feet, behind the things, in front of buildings."""
    unit, sprites = height / 128, []
    if rng.random() < 0.1:
        return []
    x = (0.5 + side * rng.uniform(0.02, 0.2)) * width
    for _ in range(int(rng.integers(2, 5))):
        sizes = [(rng.uniform(24, 36), rng.uniform(36, 54), True), (rng.uniform(26, 36), rng.uniform(18, 26), False)]
        base = horizon + rng.uniform(0.03, 0.07) * height
        for wide, tall, is_tree in sizes[int(rng.random() < 0.2) :]:
            pen = Pen(wide * 0.75, tall * 1.15, tall * 0.15, unit * SUPERSAMPLING)
            (scenery.draw_tree if is_tree else scenery.draw_bush)(pen, rng, light, wide, tall)
            sprites.append(pen.sprite("plant", x * SUPERSAMPLING, base * SUPERSAMPLING, rng, 0.07))
        x += side * rng.uniform(14, 24) * unit
    return sprites


def _things(rng: np.random.Generator, light: Light, width: int, height: int, horizon: float) -> list[Sprite]:
    """Two to six things of two to five categories on the ground, not quite on top of one another."""
    sprites: list[Sprite] = []
    palette = rng.permutation(len(THINGS))[: int(rng.integers(2, 6))]
    places: list[tuple[float, float, float]] = []
    for _ in range(int(rng.integers(2, 7))):
        name = THINGS[int(rng.choice(palette))]
        shape = SHAPES[name]
        for _ in range(12):
            nearness = rng.uniform(0.16, 1.0)
            x, base = rng.uniform(0.04, 0.96) * width, horizon + nearness * (0.97 * height - horizon)
            scale = (0.45 + 0.55 * nearness) * min(height, 0.8 * width) * METRE
            room = shape.reach * 0.62 * scale
            if all(abs(x - x1) > 0.62 * (room + room1) or abs(base - y1) > 0.22 * height for x1, y1, room1 in places):
                break
        else:
            continue
        places.append((x, base, room))
        pen = Pen(shape.reach, shape.height, shape.depth, scale * SUPERSAMPLING)
        shape.draw(pen, rng, light)
        sprites.append(pen.sprite(name, x * SUPERSAMPLING, base * SUPERSAMPLING, rng, 0.03))
    return sprites


def _stack(sprites: list[Sprite], width: int, height: int) -> np.ndarray:
    """Which sprite each picture pixel shows: (H, W) uint8, 1 and up in the sprites' order, 0 for none."""
    canvas = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    for number, sprite in enumerate(sprites, 1):
        canvas.paste(number, (sprite.left, sprite.top), sprite.mask)
    middle = SUPERSAMPLING // 2
    return np.asarray(canvas)[middle::SUPERSAMPLING, middle::SUPERSAMPLING]


def _keep_visible(sprites: list[Sprite], width: int, height: int) -> list[Sprite]:
    """Leave out what shows too little of itself, until all that is left shows enough."""
    least = max(8.0, MIN_VISIBLE_AREA * width * height)
    while True:
        areas = np.bincount(_stack(sprites, width, height).ravel(), minlength=len(sprites) + 1)[1:]
        kept = [
            sprite
            for sprite, area in zip(sprites, areas)
            if area >= max(least, MIN_VISIBLE_SHARE * sprite.area() / SUPERSAMPLING**2)
        ]
        if len(kept) == len(sprites):
            return kept
        sprites = kept


def _label(sprites: list[Sprite], is_ground: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Segments of the scene: one for each stuff category, one for each thing."""
    names = ["sky", "ground"]
    segment_of = [0]
    for sprite in sprites:
        if sprite.category in STUFF and sprite.category in names:
            segment_of.append(names.index(sprite.category))
        else:
            names.append(sprite.category)
            segment_of.append(len(names) - 1)
    shown = _stack(sprites, is_ground.shape[1], is_ground.shape[0])
    segments = np.where(shown > 0, np.array(segment_of, np.uint8)[shown], is_ground.astype(np.uint8))
    return segments, names


def _outlines(sprites: list[Sprite], segments: np.ndarray, names: list[str]) -> np.ndarray:
    """Each segment's pixels, (N, H, W) bool; a thing's as if nothing stood before it."""
    height, width = segments.shape
    whole = iter([_stack([sprite], width, height) > 0 for sprite in sprites if sprite.category in SHAPES])
    return np.stack([next(whole) if name in SHAPES else segments == number for number, name in enumerate(names)])


def _paint(canvas: Image.Image, sprites: list[Sprite], light: Light, height: int, horizon: float) -> Image.Image:
    """The scene from back to front, each thing's shadow on the ground before the thing."""
    draw = ImageDraw.Draw(canvas, "RGBA")
    for sprite in sprites:
        if sprite.category in SHAPES:
            _cast_shadow(draw, sprite, light, height, horizon)
        canvas.paste(sprite.picture, (sprite.left, sprite.top), sprite.mask)
    return canvas.reduce(SUPERSAMPLING)


def _cast_shadow(draw: ImageDraw.ImageDraw, sprite: Sprite, light: Light, height: int, horizon: float) -> None:
    box = sprite.mask.getbbox()
    if box is None:
        return
    left, right = sprite.left + box[0], sprite.left + box[2]
    nearness = (sprite.base / SUPERSAMPLING - horizon) / (height - horizon)
    metre = (0.45 + 0.55 * nearness) * height * METRE * SUPERSAMPLING
    slip = -light.side * SHAPES[sprite.category].shadow * metre
    depth = 0.16 * metre
    opacity = int(40 + 75 * light.strength)
    for spread, share in ((0.08 * metre, 0.45), (0.0, 0.55)):
        points = [
            (left - spread, sprite.base + 0.5 * spread),
            (right + spread, sprite.base + 0.5 * spread),
            (right + slip + spread, sprite.base - depth - spread),
            (left + slip - spread, sprite.base - depth - spread),
        ]
        draw.polygon(points, fill=(18, 16, 24, int(opacity * share)))


def _photograph(picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """The scene as a camera records it: exposure, white balance, a darker rim, noise."""
    pixels = np.asarray(picture, dtype=np.float32)
    height, width = pixels.shape[:2]
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
    rim = 1 - rng.uniform(0, 0.12) * (rows**2 + columns**2) / 2
    warmth = rng.uniform(-0.06, 0.06)
    balance = np.array([1 + warmth, 1, 1 - warmth], np.float32) * rng.uniform(0.78, 1.1)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(2, 6)
    return (pixels * (rim[:, :, None] * balance) + noise).clip(0, 255).astype(np.uint8)
