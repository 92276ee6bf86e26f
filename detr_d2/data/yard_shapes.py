"""The things of the yard: how each is drawn, in metres, lit by the scene's sun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .yard_pen import Color, Light, Pen, hsv, mix, shade

STRIPS = 9
"""Flat strips that a round surface is made of."""


def draw_brick_stack(pen: Pen, rng: np.random.Generator, light: Light) -> None:
    """Courses of red bricks, a side and a top to be seen, now and then bricks missing on top."""
    color = hsv(rng.uniform(4, 17), rng.uniform(0.55, 0.75), rng.uniform(0.58, 0.78))
    columns, rows = int(rng.integers(4, 7)), int(rng.integers(4, 8))
    width, course = rng.uniform(1.0, 1.45), 0.135
    height, side = rows * course, float(rng.choice([-1, 1]))
    back_x, back_y = side * rng.uniform(0.18, 0.34), rng.uniform(0.16, 0.26)
    left, right, brick = -width / 2, width / 2, width / columns
    edge = right if side > 0 else left
    side_color = shade(color, light.on(side))
    flank = [(edge, 0.0), (edge, height), (edge + back_x, height + back_y), (edge + back_x, back_y)]
    pen.polygon(flank, side_color)
    for row in range(1, rows):
        pen.line([(edge, row * course), (edge + back_x, row * course + back_y)], shade(side_color, 0.7), 0.02, False)
    top_color = shade(color, light.on(0, 1) * 1.12)
    pen.polygon(
        [(left, height), (right, height), (right + back_x, height + back_y), (left + back_x, height + back_y)],
        top_color,
    )
    mortar = shade(mix(color, (190, 180, 170), 0.35), light.on(-side * 0.3) * 0.72)
    pen.polygon([(left, 0), (right, 0), (right, height), (left, height)], mortar)
    extra = int(rng.integers(0, columns - 1))
    for row in range(rows + (extra > 0)):
        shift = 0.5 * brick * (row % 2)
        for column in range(columns if row < rows else extra):
            x0 = max(left, left + column * brick - shift) + 0.012
            x1 = left + (column + 1) * brick - shift - 0.012
            front = shade(color, light.on(-side * 0.3) * rng.uniform(0.84, 1.14))
            y0, y1 = row * course + 0.012, (row + 1) * course - 0.012
            pen.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], front, solid=row >= rows)


def draw_pipe(pen: Pen, rng: np.random.Generator, light: Light) -> None:
    """A pale pipe lying on the ground, its dark opening towards the viewer."""
    color = hsv(rng.uniform(185, 215), rng.uniform(0.04, 0.22), rng.uniform(0.76, 0.95))
    radius, length = rng.uniform(0.23, 0.36), rng.uniform(1.2, 2.1)
    turn = rng.uniform(0.15, 1.1) * rng.choice([-1, 1])
    reach_x, reach_y = length * np.cos(turn) / 2, 0.32 * length * abs(np.sin(turn)) / 2
    opening = radius * (0.3 + 0.6 * abs(np.sin(turn)))
    near = np.array([-np.sign(turn) * reach_x, radius])
    far = np.array([np.sign(turn) * reach_x, radius + 2 * reach_y])
    shadow_side = shade(color, 0.62)
    pen.ellipse((far[0], far[1]), opening * 0.92, radius * 0.92, shadow_side)
    edges = np.linspace(1, -1, STRIPS + 1)
    for upper, lower in pairwise(edges):
        middle = (upper + lower) / 2
        brightness = 0.82 + 0.28 * middle + 0.12 * light.strength * (middle > 0.1)
        strip = [
            (near[0], near[1] + upper * radius),
            (far[0], far[1] + upper * radius * 0.92),
            (far[0], far[1] + lower * radius * 0.92),
            (near[0], near[1] + lower * radius),
        ]
        pen.polygon(strip, shade(color, brightness))
    ring = shade(color, 1.05 * light.on(-np.sign(turn) * 0.4))
    pen.ellipse((near[0], near[1]), opening, radius, ring)
    pen.ellipse((near[0], near[1]), opening * 0.74, radius * 0.76, shade(color, 0.24))
    pen.ellipse((near[0], near[1] - 0.3 * radius), opening * 0.5, radius * 0.38, shade(color, 0.42))


def draw_drum(pen: Pen, rng: np.random.Generator, light: Light) -> None:
    """An upright blue barrel with two ribs and a lid."""
    color = hsv(rng.uniform(205, 236), rng.uniform(0.62, 0.88), rng.uniform(0.5, 0.82))
    radius, height, lid = rng.uniform(0.29, 0.36), rng.uniform(0.84, 1.02), rng.uniform(0.075, 0.12)
    edges = np.linspace(-1, 1, STRIPS + 1)
    drop = lid * np.sqrt(1 - edges**2)
    for i in range(STRIPS):
        x0, x1 = radius * edges[i], radius * edges[i + 1]
        strip = [(x0, height), (x1, height), (x1, lid - drop[i + 1]), (x0, lid - drop[i])]
        pen.polygon(strip, shade(color, light.on((edges[i] + edges[i + 1]) / 2) * (1.05 - 0.3 * edges[i] ** 2)))
    for level in (0.36, 0.68):
        arc = [(radius * e, level * height + lid / 2 - d) for e, d in zip(edges, drop)]
        pen.line([(x, y + 0.025) for x, y in arc], shade(color, 1.3), 0.03, False)
        pen.line([(x, y - 0.02) for x, y in arc], shade(color, 0.6), 0.035, False)
    if rng.random() < 0.35:
        label = shade((232, 228, 214), light.on(0))
        pen.polygon([(-0.13, 0.4), (0.13, 0.4), (0.13, 0.58), (-0.13, 0.58)], label, False)
    pen.ellipse((0, height), radius, lid, shade(color, 1.25 * light.on(0, 1)))
    pen.ellipse((0, height - 0.01), radius * 0.84, lid * 0.78, shade(color, 0.86 * light.on(0, 1)))
    pen.ellipse((radius * 0.4, height), 0.05, 0.03, shade(color, 0.4), False)


def draw_cone(pen: Pen, rng: np.random.Generator, light: Light) -> None:
    """An orange traffic cone with white bands on a square foot."""
    color = hsv(rng.uniform(14, 25), rng.uniform(0.88, 1.0), rng.uniform(0.9, 1.0))
    height, radius = rng.uniform(0.85, 1.08), rng.uniform(0.22, 0.27)
    foot = shade(color, 0.62) if rng.random() < 0.5 else (48, 44, 46)
    wide = radius * 1.42
    pen.polygon([(-wide, 0.0), (wide, 0.0), (wide * 0.8, 0.19), (-wide * 0.8, 0.19)], foot)
    pen.polygon([(-wide, -0.05), (wide, -0.05), (wide, 0.0), (-wide, 0.0)], shade(foot, 0.7))
    bands = [(0.34, 0.52), (0.66, 0.8)] if rng.random() < 0.7 else [(0.45, 0.7)]
    levels = sorted({0.0, 1.0, *(level for band in bands for level in band)})
    edges = np.linspace(-1, 1, 6)
    for low, high in pairwise(levels):
        fill = (240, 240, 236) if (low, high) in bands else color
        half_low, half_high = radius * (1 - 0.84 * low), radius * (1 - 0.84 * high)
        y_low, y_high = 0.08 + low * height, 0.08 + high * height
        for left, right in pairwise(edges):
            low_side = [(half_low * left, y_low), (half_low * right, y_low)]
            quad = [*low_side, (half_high * right, y_high), (half_high * left, y_high)]
            pen.polygon(quad, shade(fill, light.on((left + right) / 2)))
    pen.ellipse((0, 0.08), radius, 0.05, shade(color, 0.85))


def draw_board(pen: Pen, rng: np.random.Generator, light: Light) -> None:
    """A sheet of pale planks standing askew, held up by struts."""
    color = hsv(rng.uniform(38, 50), rng.uniform(0.36, 0.56), rng.uniform(0.84, 0.97))
    width, height = rng.uniform(0.85, 1.35), rng.uniform(0.9, 1.25)
    rise, lean = rng.uniform(-0.2, 0.2), rng.uniform(-0.12, 0.12)
    left, right = -width / 2, width / 2
    base_left, base_right = max(0.0, rise), max(0.0, -rise)
    strut = shade(hsv(30, 0.55, 0.5), light.on(0))
    for x, base in ((left + 0.12, base_left), (right - 0.12, base_right)):
        pen.line([(x + lean, height * 0.9 + base), (x + 0.34 * np.sign(rise), base + 0.12)], strut, 0.07)
    face = light.on(-np.sign(rise) * 0.6)
    planks = int(rng.integers(4, 7))
    corners = np.linspace(0, 1, planks + 1)
    for start, end in pairwise(corners):
        quad = []
        for part, up in ((start, 0.0), (end, 0.0), (end, 1.0), (start, 1.0)):
            base = base_left + (base_right - base_left) * part
            quad.append((left + width * part + lean * up, base + height * up * (1 - 0.12 * abs(rise) * part)))
        tint = shade(color, face * rng.uniform(0.9, 1.08))
        pen.polygon(quad, tint)
        pen.line([quad[1], quad[2]], shade(color, face * 0.62), 0.025, False)
        knot = rng.uniform(0.2, 0.8)
        pen.ellipse((quad[0][0] + width / planks / 2, quad[0][1] + knot * height), 0.03, 0.05, shade(color, 0.6), False)
    for up in (0.14, 0.86):
        ends = [(left + lean * up, base_left + height * up), (right + lean * up, base_right + height * up)]
        pen.line(ends, shade(color, face * 0.8), 0.08, False)


def draw_barrow(pen: Pen, rng: np.random.Generator, light: Light) -> None:
    """A wheelbarrow from the side: tray, wheel in front, legs and handles behind; empty or loaded."""
    hue = rng.uniform(120, 150) if rng.random() < 0.5 else rng.uniform(338, 352)
    color = hsv(hue, rng.uniform(0.65, 0.9), rng.uniform(0.45, 0.7))
    ahead = float(rng.choice([-1, 1]))
    metal, rubber = shade((112, 112, 118), light.on(0)), (34, 32, 34)

    def at(x: float, y: float) -> tuple[float, float]:
        return ahead * x, y

    pen.line([at(0.62, 0.22), at(0.0, 0.4), at(-0.95, 0.62)], metal, 0.07)
    pen.line([at(-0.95, 0.62), at(-0.75, 0.57)], rubber, 0.1)
    pen.line([at(-0.28, 0.42), at(-0.36, 0.0)], metal, 0.07)
    pen.line([at(-0.1, 0.4), at(-0.36, 0.03)], metal, 0.05)
    if rng.random() < 0.6:
        load = shade(hsv(rng.uniform(25, 45), rng.uniform(0.1, 0.4), rng.uniform(0.5, 0.8)), light.on(0, 0.6))
        pen.ellipse(at(0.12, 0.78), 0.46, rng.uniform(0.12, 0.24), load)
    rim = [at(-0.5, 0.84), at(0.78, 0.78)]
    pen.polygon([*rim, at(0.42, 0.36), at(-0.2, 0.36)], shade(color, light.on(0.2 * ahead)))
    pen.polygon([at(-0.5, 0.84), at(-0.2, 0.36), at(0.0, 0.36), at(-0.2, 0.83)], shade(color, 0.72), False)
    pen.line(rim, shade(color, 1.4), 0.06)
    wheel = 0.24
    pen.ellipse(at(0.66, wheel), wheel, wheel, rubber)
    pen.ellipse(at(0.66, wheel), wheel * 0.5, wheel * 0.5, metal)
    pen.ellipse(at(0.66, wheel), wheel * 0.18, wheel * 0.18, rubber)


@dataclass(frozen=True)
class Shape:
    """A thing's drawing and the room it takes.

    Args:
        draw: draws it with a pen, foot at the origin, in metres.
        reach, height, depth: how far it extends left and right, up, and below its foot, in metres.
        color: its colour in pictures of labels.
        shadow: length of its shadow, in metres.
    """

    draw: Callable[[Pen, np.random.Generator, Light], None]
    reach: float
    height: float
    depth: float
    color: Color
    shadow: float


SHAPES: dict[str, Shape] = {
    "brick_stack": Shape(draw_brick_stack, 1.15, 1.5, 0.05, (196, 48, 40), 0.8),
    "pipe": Shape(draw_pipe, 1.5, 1.9, 0.05, (150, 225, 235), 0.5),
    "drum": Shape(draw_drum, 0.45, 1.2, 0.05, (35, 70, 215), 0.7),
    "cone": Shape(draw_cone, 0.45, 1.25, 0.1, (255, 130, 0), 0.5),
    "board": Shape(draw_board, 1.3, 1.75, 0.05, (235, 210, 90), 0.7),
    "barrow": Shape(draw_barrow, 1.15, 1.15, 0.05, (170, 0, 130), 0.6),
}
