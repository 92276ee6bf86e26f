"""What stands still in the yard: sky, ground, buildings and plants.

Buildings and plants are drawn in units of which 128 make the picture's height, so they grow with it.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .yard_pen import Color, Light, Pen, hsv, mix, shade


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise (height, width) of mean 0 and deviation about 1, with so many cells down and across."""
    coarse = Image.fromarray(rng.normal(size=cells).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def paint_sky(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A sky (height, width, 3) in 0..255, paler towards its lower edge, with clouds."""
    hue, value = rng.uniform(200, 218), rng.uniform(0.72, 0.98)
    top = np.array(hsv(hue, rng.uniform(0.12, 0.58), value), np.float32)
    low = np.array(hsv(hue - 5, 0.08, min(1.0, value + 0.08)), np.float32)
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** 0.8
    clouds = smooth_noise(rng, height, width, (7, 4)) + 0.5 * smooth_noise(rng, height, width, (15, 9))
    cover = np.clip((clouds - rng.uniform(-0.2, 1.2)) * 0.55, 0, 0.85)[:, :, None]
    bright = np.array([246, 246, 246], np.float32) * min(1.0, value + 0.05)
    return (top + (low - top) * down) * (1 - cover) + bright * cover


def paint_ground(rng: np.random.Generator, height: int, width: int, horizon: int) -> np.ndarray:
    """Bare earth or gravel (height, width, 3) in 0..255 that gets coarser towards the viewer, with wheel tracks."""
    base = hsv(rng.uniform(24, 44), rng.uniform(0.12, 0.42), rng.uniform(0.48, 0.72))
    distance = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    patches = 0.055 * smooth_noise(rng, height, width, (14, 6)) + 0.045 * smooth_noise(rng, height, width, (40, 24))
    gravel = rng.normal(0, 0.05, (height, width)).astype(np.float32) * (0.4 + 0.9 * distance)
    brightness = 1.06 - 0.16 * distance + patches + gravel
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    nearness = (rows - horizon) / max(1, height - horizon)
    for _ in range(int(rng.integers(0, 3))):
        start, goal, bend = rng.uniform(0, width), rng.uniform(-0.6, 1.6) * width, rng.uniform(-0.4, 0.4) * width
        middle = start + (goal - start) * nearness + bend * nearness * (1 - nearness)
        for side in (-1, 1):
            gauge = (0.012 + 0.14 * nearness) * height
            track = np.abs(columns - middle - side * gauge) / (0.008 + 0.035 * np.clip(nearness, 0, 1)) / height
            brightness = brightness - 0.13 * np.exp(-(track**2)) * (
                0.75 + 0.25 * np.sin(90 * np.sqrt(np.clip(nearness, 0, 1)))
            )
    return np.array(base, np.float32) * np.clip(brightness, 0.3, 1.5)[:, :, None]


def horizon_line(rng: np.random.Generator, width: int, horizon: float, height: int) -> np.ndarray:
    """Row (width,) at which the ground begins in each column: nearly level, a little hilly."""
    hills = smooth_noise(rng, 1, width, (1, 5))[0] * 0.01 * height
    return horizon + hills + np.linspace(-1, 1, width) * rng.uniform(-0.015, 0.015) * height


def draw_block(pen: Pen, rng: np.random.Generator, light: Light, width: float, height: float) -> None:
    """A house with rows of windows, a flat roof and a side wall in another light."""
    color = _wall_color(rng)
    half, side = width / 2, float(rng.choice([-1, 1]))
    flank = side * rng.uniform(0.12, 0.3) * width
    edge = side * half
    roof = height - rng.uniform(0.03, 0.1) * height
    pen.polygon(
        [(edge, -3), (edge, height), (edge + flank, roof), (edge + flank, -3)], shade(color, light.on(side) * 0.82)
    )
    pen.polygon([(-half, -3), (-half, height), (half, height), (half, -3)], shade(color, light.on(-side * 0.5)))
    pen.line([(-half, height - 1), (half, height - 1)], shade(color, 0.72), 1.6, False)
    _windows(pen, rng, light, color, width, height)


def draw_shed(pen: Pen, rng: np.random.Generator, light: Light, width: float, height: float) -> None:
    """A hall of corrugated sheet with a pitched roof and a gate."""
    color = _wall_color(rng)
    half, eaves = width / 2, height * rng.uniform(0.6, 0.75)
    pen.polygon([(-half, -3), (-half, eaves), (half, eaves), (half, -3)], shade(color, light.on(0)))
    for x in np.arange(-half + 1.5, half, 3.0):
        pen.line([(x, -3), (x, eaves)], shade(color, light.on(0) * 0.86), 0.8, False)
    roof = mix(color, (112, 66, 58), rng.uniform(0.3, 0.9))
    ridge = rng.uniform(-0.1, 0.1) * width
    pen.polygon([(-half - 2, eaves), (ridge, height), (half + 2, eaves)], shade(roof, light.on(0, 1) * 0.9))
    gate = rng.uniform(0.12, 0.2) * width
    centre = rng.uniform(-0.25, 0.25) * width
    pen.polygon([(centre - gate, -3), (centre - gate, eaves * 0.7), (centre + gate, eaves * 0.7), (centre + gate, -3)],
                shade(color, 0.42))  # fmt: skip


def draw_frame(pen: Pen, rng: np.random.Generator, light: Light, width: float, height: float) -> None:
    """A building under construction: bare floors and columns, dark between them."""
    color = hsv(rng.uniform(30, 50), rng.uniform(0.03, 0.12), rng.uniform(0.62, 0.76))
    half, floors, bays = width / 2, max(2, round(height / 13)), max(2, round(width / 13))
    pen.polygon([(-half, -3), (-half, height), (half, height), (half, -3)], shade(color, 0.4 + 0.1 * rng.random()))
    for level in np.linspace(0, height, floors + 1)[1:]:
        pen.polygon([(-half - 1, level - 2.6), (half + 1, level - 2.6), (half + 1, level), (-half - 1, level)],
                    shade(color, light.on(0, 0.5)))  # fmt: skip
    for x in np.linspace(-half + 1, half - 1, bays + 1):
        pen.line([(x, -3), (x, height)], shade(color, light.on(-0.4)), 2.2, False)


def draw_tree(pen: Pen, rng: np.random.Generator, light: Light, width: float, height: float) -> None:
    """A tree: a trunk and a crown of leaf clusters."""
    trunk = shade(hsv(rng.uniform(22, 34), 0.45, 0.36), light.on(0))
    pen.line([(0, -1), (rng.uniform(-0.05, 0.05) * width, height * 0.55)], trunk, max(2.0, width * 0.09))
    _leaves(pen, rng, light, width, height, 0.38)


def draw_bush(pen: Pen, rng: np.random.Generator, light: Light, width: float, height: float) -> None:
    """A bush: leaf clusters down to the ground."""
    _leaves(pen, rng, light, width, height, 0.0)


def _leaves(pen: Pen, rng: np.random.Generator, light: Light, width: float, height: float, start: float) -> None:
    """Clusters of leaves between ``start`` of the height and the height, dark ones first."""
    color = hsv(rng.uniform(78, 118), rng.uniform(0.42, 0.68), rng.uniform(0.36, 0.56))
    middle, tall = height * (1 + start) / 2, height * (1 - start) / 2
    pen.ellipse((0, middle), width * 0.38, tall * 0.82, shade(color, 0.62))
    for depth in np.linspace(0.66, 1.16, 15):
        angle, out = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.74)
        x, up = np.cos(angle) * out, np.sin(angle) * out
        radius = rng.uniform(0.2, 0.3)
        tint = shade(color, depth * light.on(x, 0.8 * up + 0.2) * rng.uniform(0.92, 1.08))
        pen.ellipse((x * width / 2, middle + up * tall), radius * width * 0.62, radius * tall * 1.1, tint)
    for _ in range(14):
        x, up = rng.uniform(-0.6, 0.6), rng.uniform(-0.7, 0.7)
        dot = shade(color, rng.uniform(0.6, 1.4))
        pen.ellipse((x * width / 2, middle + up * tall), width * 0.05, tall * 0.07, dot, False)


def _wall_color(rng: np.random.Generator) -> Color:
    """Plaster, concrete or painted sheet: pale and of little colour."""
    return hsv(rng.choice([15, 35, 48, 200, 160]) + rng.uniform(-6, 6), rng.uniform(0.05, 0.26), rng.uniform(0.6, 0.86))


def _windows(pen: Pen, rng: np.random.Generator, light: Light, wall: Color, width: float, height: float) -> None:
    columns, rows = max(2, round(width / rng.uniform(9, 13))), max(1, round(height / rng.uniform(11, 15)))
    step_x, step_y = width / columns, (height - 2) / rows
    glass = hsv(rng.uniform(200, 220), 0.3, rng.uniform(0.24, 0.42))
    for row in range(rows):
        for column in range(columns):
            x, y = -width / 2 + step_x * (column + 0.27), step_y * (row + 0.25)
            pane = [(x, y), (x + step_x * 0.46, y), (x + step_x * 0.46, y + step_y * 0.5), (x, y + step_y * 0.5)]
            pen.polygon(pane, shade(glass, rng.uniform(0.8, 1.5)), False)
            pen.line([pane[0], pane[1]], shade(wall, light.on(0, 1) * 1.1), 0.7, False)
