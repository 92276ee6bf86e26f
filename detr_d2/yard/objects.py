"""What is in the yard, and how it is drawn under the scene's sun: sky and ground, buildings, plants, things.

Buildings and plants are drawn in units of which 128 make the image's height, so they grow with it; things in metres.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image

from .drawing import Color, Sprite, mix, random_color, shade


def paint_backdrop(rng: np.random.Generator, width: int, height: int, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """The empty yard, (H, W, 3) uint8, and which of its pixels are ground, (H, W) bool."""
    hills = _smooth_noise(rng, 1, width, (1, 5))[0] * 0.01 * height
    line = horizon + hills + np.linspace(-1, 1, width) * rng.uniform(-0.015, 0.015) * height
    is_ground = np.arange(height)[:, None] >= line[None]
    pixels = _paint_ground(rng, height, width, int(line.min()))
    deepest = int(line.max()) + 1
    sky = _paint_sky(rng, deepest, width)
    pixels[:deepest] = np.where(is_ground[:deepest, :, None], pixels[:deepest], sky)
    return pixels.clip(0, 255).astype(np.uint8), is_ground


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise (height, width) of mean 0 and deviation about 1, with so many cells down and across."""
    coarse = Image.fromarray(rng.normal(size=cells).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def _paint_sky(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A sky (height, width, 3) in 0..255, paler towards its lower edge, with clouds."""
    hue, value = rng.uniform(200, 218), rng.uniform(0.72, 0.98)
    top = np.array(random_color(rng, hue, (0.12, 0.58), value), np.float32)
    low = np.array(random_color(rng, hue - 5, 0.08, value + 0.08), np.float32)
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** 0.8
    clouds = _smooth_noise(rng, height, width, (7, 4)) + 0.5 * _smooth_noise(rng, height, width, (15, 9))
    cover = np.clip((clouds - rng.uniform(-0.2, 1.2)) * 0.55, 0, 0.85)[:, :, None]
    bright = np.array([246, 246, 246], np.float32) * min(1.0, value + 0.05)
    return (top + (low - top) * down) * (1 - cover) + bright * cover


def _paint_ground(rng: np.random.Generator, height: int, width: int, horizon: int) -> np.ndarray:
    """Bare earth or gravel (height, width, 3) in 0..255 that gets coarser towards the viewer, with wheel tracks."""
    base = random_color(rng, (24, 44), (0.12, 0.42), (0.48, 0.72))
    distance = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    patches = 0.055 * _smooth_noise(rng, height, width, (14, 6)) + 0.045 * _smooth_noise(rng, height, width, (40, 24))
    gravel = rng.normal(0, 0.05, (height, width)).astype(np.float32) * (0.4 + 0.9 * distance)
    brightness = 1.06 - 0.16 * distance + patches + gravel
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    nearness = (rows - horizon) / max(1, height - horizon)
    on_ground = np.clip(nearness, 0, 1)
    for _ in range(int(rng.integers(0, 3))):
        start, goal, bend = rng.uniform(0, width), rng.uniform(-0.6, 1.6) * width, rng.uniform(-0.4, 0.4) * width
        middle = start + (goal - start) * nearness + bend * nearness * (1 - nearness)
        for side in (-1, 1):
            gauge = (0.012 + 0.14 * nearness) * height
            track = np.abs(columns - middle - side * gauge) / (0.008 + 0.035 * on_ground) / height
            brightness = brightness - 0.13 * np.exp(-(track**2)) * (0.75 + 0.25 * np.sin(90 * np.sqrt(on_ground)))
    return np.array(base, np.float32) * np.clip(brightness, 0.3, 1.5)[:, :, None]


def draw_block(sprite: Sprite, rng: np.random.Generator, width: float, height: float) -> None:
    """A house with rows of windows, a flat roof and a side wall in another light."""
    color = _wall_color(rng)
    half, side = width / 2, float(rng.choice([-1, 1]))
    edge, flank = side * half, side * rng.uniform(0.12, 0.3) * width
    roof = height - rng.uniform(0.03, 0.1) * height
    wall = [(edge, -3), (edge, height), (edge + flank, roof), (edge + flank, -3)]
    sprite.polygon(wall, color, sprite.lit(side) * 0.82)
    sprite.box((-half, -3), (half, height), color, sprite.lit(-side * 0.5))
    sprite.line([(-half, height - 1), (half, height - 1)], 1.6, color, 0.72, solid=False)
    _draw_windows(sprite, rng, color, width, height)


def draw_shed(sprite: Sprite, rng: np.random.Generator, width: float, height: float) -> None:
    """A hall of corrugated sheet with a pitched roof and a gate."""
    color, front = _wall_color(rng), sprite.lit(0)
    half, eaves = width / 2, height * rng.uniform(0.6, 0.75)
    sprite.box((-half, -3), (half, eaves), color, front)
    for x in np.arange(-half + 1.5, half, 3.0):
        sprite.line([(x, -3), (x, eaves)], 0.8, color, front * 0.86, solid=False)
    roof = mix(color, (112, 66, 58), rng.uniform(0.3, 0.9))
    ridge = rng.uniform(-0.1, 0.1) * width
    sprite.polygon([(-half - 2, eaves), (ridge, height), (half + 2, eaves)], roof, sprite.lit(0, 1) * 0.9)
    gate, centre = rng.uniform(0.12, 0.2) * width, rng.uniform(-0.25, 0.25) * width
    sprite.box((centre - gate, -3), (centre + gate, eaves * 0.7), color, 0.42)


def draw_frame(sprite: Sprite, rng: np.random.Generator, width: float, height: float) -> None:
    """A building under construction: bare floors and columns, dark between them."""
    color = random_color(rng, (30, 50), (0.03, 0.12), (0.62, 0.76))
    half, floors, bays = width / 2, max(2, round(height / 13)), max(2, round(width / 13))
    sprite.box((-half, -3), (half, height), color, 0.4 + 0.1 * rng.random())
    for level in np.linspace(0, height, floors + 1)[1:]:
        sprite.box((-half - 1, level - 2.6), (half + 1, level), color, sprite.lit(0, 0.5))
    for x in np.linspace(-half + 1, half - 1, bays + 1):
        sprite.line([(x, -3), (x, height)], 2.2, color, sprite.lit(-0.4), solid=False)


def draw_plant(sprite: Sprite, rng: np.random.Generator, width: float, height: float) -> None:
    """A tree where it is higher than wide, else a bush: clusters of leaves, dark ones first."""
    bare = 0.38 if height > width else 0.0
    if bare:
        trunk = random_color(rng, (22, 34), 0.45, 0.36)
        top = (rng.uniform(-0.05, 0.05) * width, height * 0.55)
        sprite.line([(0, -1), top], max(2.0, width * 0.09), trunk, sprite.lit(0))
    color = random_color(rng, (78, 118), (0.42, 0.68), (0.36, 0.56))
    middle, tall = height * (1 + bare) / 2, height * (1 - bare) / 2
    sprite.ellipse((0, middle), (width * 0.38, tall * 0.82), color, 0.62)
    clusters = rng.uniform((0, 0.25, 0.2, 0.92), (2 * np.pi, 0.74, 0.3, 1.08), (15, 4))
    for (angle, out, radius, tint), depth in zip(clusters, np.linspace(0.66, 1.16, 15)):
        x, up = np.cos(angle) * out, np.sin(angle) * out
        brightness, size = depth * sprite.lit(x, 0.8 * up + 0.2) * tint, (radius * width * 0.62, radius * tall * 1.1)
        sprite.ellipse((x * width / 2, middle + up * tall), size, color, brightness)
    for x, up, tint in rng.uniform((-0.6, -0.7, 0.6), (0.6, 0.7, 1.4), (14, 3)):
        centre, size = (x * width / 2, middle + up * tall), (width * 0.05, tall * 0.07)
        sprite.ellipse(centre, size, color, tint, solid=False)


def _wall_color(rng: np.random.Generator) -> Color:
    """Plaster, concrete or painted sheet: pale and of little colour."""
    return random_color(rng, rng.choice([15, 35, 48, 200, 160]) + rng.uniform(-6, 6), (0.05, 0.26), (0.6, 0.86))


def _draw_windows(sprite: Sprite, rng: np.random.Generator, wall: Color, width: float, height: float) -> None:
    columns, rows = max(2, round(width / rng.uniform(9, 13))), max(1, round(height / rng.uniform(11, 15)))
    step_x, step_y = width / columns, (height - 2) / rows
    glass = random_color(rng, (200, 220), 0.3, (0.24, 0.42))
    for row, column in np.ndindex(rows, columns):
        x, y = -width / 2 + step_x * (column + 0.27), step_y * (row + 0.25)
        sprite.box((x, y), (x + step_x * 0.46, y + step_y * 0.5), glass, rng.uniform(0.8, 1.5), solid=False)
        sprite.line([(x, y), (x + step_x * 0.46, y)], 0.7, wall, sprite.lit(0, 1) * 1.1, solid=False)


def draw_brick_stack(sprite: Sprite, rng: np.random.Generator) -> None:
    """Courses of red bricks, a side and a top to be seen, now and then bricks missing on top."""
    color = random_color(rng, (4, 17), (0.55, 0.75), (0.58, 0.78))
    columns, rows = int(rng.integers(4, 7)), int(rng.integers(4, 8))
    width, course, side = rng.uniform(1.0, 1.45), 0.135, rng.choice([-1, 1])
    shift_x, shift_y = side * rng.uniform(0.18, 0.34), rng.uniform(0.16, 0.26)
    left, right, top, edge = -width / 2, width / 2, rows * course, side * width / 2
    flank, front = shade(color, sprite.lit(side)), sprite.lit(-side * 0.3)
    sprite.polygon([(edge, 0), (edge, top), (edge + shift_x, top + shift_y), (edge + shift_x, shift_y)], flank)
    for y in course * np.arange(1, rows):
        sprite.line([(edge, y), (edge + shift_x, y + shift_y)], 0.02, flank, 0.7, solid=False)
    lid = [(left, top), (right, top), (right + shift_x, top + shift_y), (left + shift_x, top + shift_y)]
    sprite.polygon(lid, color, sprite.lit(0, 1) * 1.12)
    sprite.box((left, 0), (right, top), mix(color, (190, 180, 170), 0.35), front * 0.72)
    extra, brick, gap = int(rng.integers(0, columns - 1)), width / columns, 0.012
    for row in range(rows + (extra > 0)):
        start = 0.5 * brick * (row % 2)
        for column in range(columns if row < rows else extra):
            low = max(left, left + column * brick - start) + gap, row * course + gap
            high = left + (column + 1) * brick - start - gap, (row + 1) * course - gap
            sprite.box(low, high, color, front * rng.uniform(0.84, 1.14), solid=row >= rows)


def draw_pipe(sprite: Sprite, rng: np.random.Generator) -> None:
    """A pale pipe lying on the ground, its dark opening towards the viewer."""
    color = random_color(rng, (185, 215), (0.04, 0.22), (0.76, 0.95))
    radius, length = rng.uniform(0.23, 0.36), rng.uniform(1.2, 2.1)
    turn = rng.uniform(0.15, 1.1) * rng.choice([-1, 1])
    sprite.facing = np.sign(turn)  # the far end is ahead
    x, far = length * np.cos(turn) / 2, radius + 0.32 * length * abs(np.sin(turn))
    opening = radius * (0.3 + 0.6 * abs(np.sin(turn)))
    sprite.ellipse((x, far), (opening * 0.92, radius * 0.92), color, 0.62)
    for upper, lower in pairwise(np.linspace(1, -1, 10)):
        near_side = [(-x, radius + lower * radius), (-x, radius + upper * radius)]
        far_side = [(x, far + upper * radius * 0.92), (x, far + lower * radius * 0.92)]
        middle = (upper + lower) / 2
        brightness = 0.82 + 0.28 * middle + 0.12 * sprite.light.strength * (middle > 0.1)
        sprite.polygon([*near_side, *far_side], color, brightness)
    sprite.ellipse((-x, radius), (opening, radius), color, 1.05 * sprite.lit(-sprite.facing * 0.4))
    sprite.ellipse((-x, radius), (opening * 0.74, radius * 0.76), color, 0.24)
    sprite.ellipse((-x, radius - 0.3 * radius), (opening * 0.5, radius * 0.38), color, 0.42)


def draw_drum(sprite: Sprite, rng: np.random.Generator) -> None:
    """An upright blue barrel with two ribs and a lid."""
    color = random_color(rng, (205, 236), (0.62, 0.88), (0.5, 0.82))
    radius, height, lid = rng.uniform(0.29, 0.36), rng.uniform(0.84, 1.02), rng.uniform(0.075, 0.12)
    edges = np.linspace(-1, 1, 10)
    xs, drops = radius * edges, lid * np.sqrt(1 - edges**2)
    for i, (left, right) in enumerate(pairwise(edges)):
        strip = [(xs[i], height), (xs[i + 1], height), (xs[i + 1], lid - drops[i + 1]), (xs[i], lid - drops[i])]
        sprite.polygon(strip, color, sprite.lit((left + right) / 2) * (1.05 - 0.3 * left**2))
    for level in (0.36, 0.68):
        rib = level * height + lid / 2 - drops
        sprite.line(list(zip(xs, rib + 0.025)), 0.03, color, 1.3, solid=False)
        sprite.line(list(zip(xs, rib - 0.02)), 0.035, color, 0.6, solid=False)
    if rng.random() < 0.35:
        sprite.box((-0.13, 0.4), (0.13, 0.58), (232, 228, 214), sprite.lit(0), solid=False)
    sprite.ellipse((0, height), (radius, lid), color, 1.25 * sprite.lit(0, 1))
    sprite.ellipse((0, height - 0.01), (radius * 0.84, lid * 0.78), color, 0.86 * sprite.lit(0, 1))
    sprite.ellipse((radius * 0.4, height), (0.05, 0.03), color, 0.4, solid=False)


def draw_cone(sprite: Sprite, rng: np.random.Generator) -> None:
    """An orange traffic cone with white bands on a square foot."""
    color = random_color(rng, (14, 25), (0.88, 1.0), (0.9, 1.0))
    height, radius = rng.uniform(0.85, 1.08), rng.uniform(0.22, 0.27)
    foot, wide = shade(color, 0.62) if rng.random() < 0.5 else (48, 44, 46), radius * 1.42
    sprite.polygon([(-wide, 0), (wide, 0), (wide * 0.8, 0.19), (-wide * 0.8, 0.19)], foot)
    sprite.box((-wide, -0.05), (wide, 0), foot, 0.7)
    levels = np.array([0, 0.34, 0.52, 0.66, 0.8, 1] if rng.random() < 0.7 else [0, 0.45, 0.7, 1])
    halves, ys = radius * (1 - 0.84 * levels), 0.08 + levels * height
    for i in range(len(levels) - 1):
        fill = (240, 240, 236) if i % 2 else color
        for left, right in pairwise(np.linspace(-1, 1, 6)):
            low_side = [(halves[i] * left, ys[i]), (halves[i] * right, ys[i])]
            high_side = [(halves[i + 1] * right, ys[i + 1]), (halves[i + 1] * left, ys[i + 1])]
            sprite.polygon([*low_side, *high_side], fill, sprite.lit((left + right) / 2))
    sprite.ellipse((0, 0.08), (radius, 0.05), color, 0.85)


def draw_board(sprite: Sprite, rng: np.random.Generator) -> None:
    """A sheet of pale planks standing askew, held up by struts."""
    color = random_color(rng, (38, 50), (0.36, 0.56), (0.84, 0.97))
    width, height = rng.uniform(0.85, 1.35), rng.uniform(0.9, 1.25)
    rise, lean = rng.uniform(-0.2, 0.2), rng.uniform(-0.12, 0.12)
    left, right, low_left, low_right = -width / 2, width / 2, max(0.0, rise), max(0.0, -rise)
    strut, face = random_color(rng, 30, 0.55, 0.5), sprite.lit(-np.sign(rise) * 0.6)
    for x, low in ((left + 0.12, low_left), (right - 0.12, low_right)):
        ends = [(x + lean, height * 0.9 + low), (x + 0.34 * np.sign(rise), low + 0.12)]
        sprite.line(ends, 0.07, strut, sprite.lit(0))
    planks = rng.integers(4, 7)
    edges = np.linspace(0, 1, planks + 1)
    xs, feet = left + width * edges, low_left + (low_right - low_left) * edges
    tops = feet + height * (1 - 0.12 * abs(rise) * edges)
    for i in range(planks):
        corner = xs[i + 1] + lean, tops[i + 1]
        quad = [(xs[i], feet[i]), (xs[i + 1], feet[i + 1]), corner, (xs[i] + lean, tops[i])]
        sprite.polygon(quad, color, face * rng.uniform(0.9, 1.08))
        sprite.line(quad[1:3], 0.025, color, face * 0.62, solid=False)
        knot = xs[i] + width / planks / 2, feet[i] + rng.uniform(0.2, 0.8) * height
        sprite.ellipse(knot, (0.03, 0.05), color, 0.6, solid=False)
    for up in (0.14, 0.86):
        ends = [(left + lean * up, low_left + height * up), (right + lean * up, low_right + height * up)]
        sprite.line(ends, 0.08, color, face * 0.8, solid=False)


def draw_barrow(sprite: Sprite, rng: np.random.Generator) -> None:
    """A wheelbarrow from the side: tray, wheel in front, legs and handles behind; empty or loaded."""
    color = random_color(rng, (120, 150) if rng.random() < 0.5 else (338, 352), (0.65, 0.9), (0.45, 0.7))
    sprite.facing = rng.choice([-1, 1])
    metal, rubber = shade((112, 112, 118), sprite.lit(0)), (34, 32, 34)
    sprite.line([(0.62, 0.22), (0.0, 0.4), (-0.95, 0.62)], 0.07, metal)
    sprite.line([(-0.95, 0.62), (-0.75, 0.57)], 0.1, rubber)
    sprite.line([(-0.28, 0.42), (-0.36, 0.0)], 0.07, metal)
    sprite.line([(-0.1, 0.4), (-0.36, 0.03)], 0.05, metal)
    if rng.random() < 0.6:
        load = random_color(rng, (25, 45), (0.1, 0.4), (0.5, 0.8))
        sprite.ellipse((0.12, 0.78), (0.46, rng.uniform(0.12, 0.24)), load, sprite.lit(0, 0.6))
    tray = [(-0.5, 0.84), (0.78, 0.78), (0.42, 0.36), (-0.2, 0.36)]
    sprite.polygon(tray, color, sprite.lit(0.2 * sprite.facing))
    sprite.polygon([(-0.5, 0.84), (-0.2, 0.36), (0.0, 0.36), (-0.2, 0.83)], color, 0.72, solid=False)
    sprite.line(tray[:2], 0.06, color, 1.4)
    for radius, fill in ((0.24, rubber), (0.12, metal), (0.24 * 0.18, rubber)):
        sprite.ellipse((0.66, 0.24), (radius, radius), fill)


class Shape(NamedTuple):
    """A thing's drawing, colour in images of labels, and, in metres, extent (see Sprite) and length of its shadow."""

    draw: Callable[[Sprite, np.random.Generator], None]
    color: Color
    extent: tuple[float, float, float]
    shadow: float


SHAPES = {
    "brick_stack": Shape(draw_brick_stack, (196, 48, 40), (1.15, 1.5, 0.05), 0.8),
    "pipe": Shape(draw_pipe, (150, 225, 235), (1.5, 1.9, 0.05), 0.5),
    "drum": Shape(draw_drum, (35, 70, 215), (0.45, 1.2, 0.05), 0.7),
    "cone": Shape(draw_cone, (255, 130, 0), (0.45, 1.25, 0.1), 0.5),
    "board": Shape(draw_board, (235, 210, 90), (1.3, 1.75, 0.05), 0.7),
    "barrow": Shape(draw_barrow, (170, 0, 130), (1.15, 1.15, 0.05), 0.6),
}
