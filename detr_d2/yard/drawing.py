"""Drawing in the yard: objects whose image and mask stay in step, and colours under a sun."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]
Points = Sequence[Point]
Range = float | tuple[float, float]

SUPERSAMPLING = 3
"""Canvas pixels per image pixel, along each axis."""


class Light(NamedTuple):
    """The sun: where it stands, -1 (left) to 1 (right), and how strong it is, 0 (overcast) to 1."""

    side: float
    strength: float


def random_color(rng: np.random.Generator, hue: Range, saturation: Range, value: Range) -> Color:
    """A colour of a hue in degrees and of saturation and value in [0, 1], each given or drawn from a range."""
    hue, saturation, value = (rng.uniform(*x) if isinstance(x, tuple) else x for x in (hue, saturation, value))
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, min(1.0, saturation), min(1.0, value))
    return int(255 * red), int(255 * green), int(255 * blue)


def shade(color: Color, brightness: float) -> Color:
    """``color`` made brighter (above 1) or darker, within 0..255."""
    red, green, blue = (max(0, min(255, int(channel * brightness))) for channel in color)
    return red, green, blue


def mix(first: Color, second: Color, share: float) -> Color:
    """``first`` with a ``share`` in [0, 1] of ``second``."""
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(first, second))
    return red, green, blue


class Sprite:
    """One object, drawn with its foot at the origin, x to the right and y up, in a unit of its own; then placed.

    Strokes have a colour and a brightness; with ``solid=False`` they colour only what others make part of the object.

    Args:
        category: its category's name.
        light: of the scene.
        extent: how far it may reach left and right of its foot, up, and below the foot, in units.
        scale: image pixels per unit.

    Attributes:
        facing: -1 mirrors what is drawn from then on.
        base: row of the ground under it once it is placed, in image pixels; a larger base is nearer.
    """

    def __init__(self, category: str, light: Light, extent: tuple[float, float, float], scale: float) -> None:
        self.category, self.light = category, light
        self.facing, self.base = 1.0, 0.0
        self._scale = scale * SUPERSAMPLING
        reach, height, depth = (length * self._scale for length in extent)
        self._foot, self.corner = (reach + 2, height + 2), (0, 0)
        size = (int(2 * self._foot[0]) + 2, int(self._foot[1] + depth) + 4)
        self.image, self.mask = Image.new("RGB", size), Image.new("L", size)
        self._on_image, self._on_mask = ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask)

    def polygon(self, points: Points, color: Color, brightness: float = 1.0, solid: bool = True) -> None:
        """Fill a polygon."""
        self._stroke("polygon", [self._pixel(*point) for point in points], color, brightness, solid)

    def box(self, low: Point, high: Point, color: Color, brightness: float = 1.0, solid: bool = True) -> None:
        """Fill a rectangle between its lower left and upper right corners."""
        self.polygon([low, (high[0], low[1]), high, (low[0], high[1])], color, brightness, solid)

    def ellipse(self, centre: Point, radius: Point, color: Color, brightness: float = 1.0, solid: bool = True) -> None:
        """Fill an ellipse of these radii along x and y."""
        x, y = self._pixel(*centre)
        wide, high = radius[0] * self._scale, radius[1] * self._scale
        self._stroke("ellipse", (x - wide, y - high, x + wide, y + high), color, brightness, solid)

    def line(self, points: Points, width: float, color: Color, brightness: float = 1.0, solid: bool = True) -> None:
        """Draw a line of this width, at least one canvas pixel."""
        pixels = [self._pixel(*point) for point in points]
        options = {"width": max(1, round(width * self._scale)), "joint": "curve"}
        self._stroke("line", pixels, color, brightness, solid, **options)

    def place(self, x: float, base: float, rng: np.random.Generator, grain: float) -> Sprite:
        """Put its foot at (x, base), in image pixels, and make its surface grainy."""
        width, height = self.image.size
        rough = rng.normal(1.0, grain, (height // 3 + 1, width // 3 + 1)).astype(np.float32)
        rough = rough.repeat(3, 0).repeat(3, 1)[:height, :width, None]
        self.image = Image.fromarray((np.asarray(self.image, np.float32) * rough).clip(0, 255).astype(np.uint8))
        self.corner = round(x * SUPERSAMPLING - self._foot[0]), round(base * SUPERSAMPLING - self._foot[1])
        self.base = base
        return self

    def lit(self, normal_x: float, normal_up: float = 0.0) -> float:
        """Brightness of a surface whose normal has these parts to the right and up."""
        return 1.0 + 0.38 * self.light.strength * (normal_x * self.light.side + 0.7 * normal_up) - 0.06

    @property
    def area(self) -> float:
        """Image pixels of the whole object, also where it leaves the image."""
        return self.mask.histogram()[255] / SUPERSAMPLING**2

    def _pixel(self, x: float, y: float) -> Point:
        return self._foot[0] + self.facing * x * self._scale, self._foot[1] - y * self._scale

    def _stroke(self, kind: str, pixels: Any, color: Color, brightness: float, solid: bool, **options: Any) -> None:
        getattr(self._on_image, kind)(pixels, fill=shade(color, brightness), **options)
        if solid:
            getattr(self._on_mask, kind)(pixels, fill=255, **options)


def stack(sprites: Sequence[Sprite], width: int, height: int) -> np.ndarray:
    """Which sprite each image pixel shows at its middle: (H, W) uint8, 1 and up in their order, 0 for none."""
    canvas = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    for number, sprite in enumerate(sprites, 1):
        canvas.paste(number, sprite.corner, sprite.mask)
    middle = SUPERSAMPLING // 2
    return np.asarray(canvas)[middle::SUPERSAMPLING, middle::SUPERSAMPLING]
