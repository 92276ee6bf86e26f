"""What stands still in the yard: sky, ground, buildings and plants.

Buildings and plants are drawn in units of which 128 make the image's height, so they grow with it.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .drawing import Color, Sprite, mix, random_color


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
