"""Drawing tools of the yard: a pen that keeps a picture and its mask in step, and colours under a sun."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]

SUPERSAMPLING = 3
"""Canvas pixels per picture pixel, along each axis."""


@dataclass(frozen=True)
class Light:
    """The sun of one scene.

    Args:
        side: where the sun stands, -1 (left) to 1 (right).
        strength: how much brighter lit sides are than those in the shade, 0 (overcast) to 1.
    """

    side: float
    strength: float

    def on(self, normal_x: float, normal_up: float = 0.0) -> float:
        """Brightness factor of a surface whose normal has these parts to the right and up."""
        return 1.0 + 0.38 * self.strength * (normal_x * self.side + 0.7 * normal_up) - 0.06


def hsv(hue: float, saturation: float, value: float) -> Color:
    """Colour of a hue in degrees and of saturation and value in [0, 1]."""
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, min(1.0, saturation), min(1.0, value))
    return int(255 * red), int(255 * green), int(255 * blue)


def shade(color: Color, factor: float) -> Color:
    """``color`` made brighter (factor above 1) or darker, within 0..255."""
    red, green, blue = (max(0, min(255, int(channel * factor))) for channel in color)
    return red, green, blue


def mix(first: Color, second: Color, share: float) -> Color:
    """``first`` with a ``share`` in [0, 1] of ``second``."""
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(first, second))
    return red, green, blue


@dataclass
class Sprite:
    """One drawn object, cut out.

    Args:
        category: its category's name.
        picture: RGB, in canvas pixels.
        mask: mode L, 255 where the object is.
        left, top: place of the upper left corner on the canvas, in canvas pixels.
        base: y of the ground under it, in canvas pixels; a larger base is nearer.
    """

    category: str
    picture: Image.Image
    mask: Image.Image
    left: int
    top: int
    base: float

    def area(self) -> int:
        """Canvas pixels of the whole object, also where it leaves the canvas."""
        return self.mask.histogram()[255]


class Pen:
    """Draws one object with its foot at the origin, x to the right and y up, in the object's own unit.

    Args:
        reach: how far the object may extend left and right of its foot.
        height: how far up; ``depth``: how far below the foot.
        scale: canvas pixels per unit.
    """

    def __init__(self, reach: float, height: float, depth: float, scale: float) -> None:
        self.scale = scale
        self.origin = (reach * scale + 2, height * scale + 2)
        size = (int(2 * self.origin[0]) + 2, int(self.origin[1] + depth * scale) + 4)
        self.picture = Image.new("RGB", size)
        self.mask = Image.new("L", size)
        self._on_picture = ImageDraw.Draw(self.picture)
        self._on_mask = ImageDraw.Draw(self.mask)

    def polygon(self, points: Sequence[Point], color: Color, solid: bool = True) -> None:
        """Fill a polygon; ``solid=False`` colours only what other strokes make part of the object."""
        corners = [self._pixel(point) for point in points]
        self._on_picture.polygon(corners, fill=color)
        if solid:
            self._on_mask.polygon(corners, fill=255)

    def ellipse(self, centre: Point, radius_x: float, radius_y: float, color: Color, solid: bool = True) -> None:
        """Fill an ellipse; ``solid`` as in :meth:`polygon`."""
        x, y = self._pixel(centre)
        box = (
            x - radius_x * self.scale,
            y - radius_y * self.scale,
            x + radius_x * self.scale,
            y + radius_y * self.scale,
        )
        self._on_picture.ellipse(box, fill=color)
        if solid:
            self._on_mask.ellipse(box, fill=255)

    def line(self, points: Sequence[Point], color: Color, width: float, solid: bool = True) -> None:
        """Draw a line of this width in units, at least one canvas pixel; ``solid`` as in :meth:`polygon`."""
        corners = [self._pixel(point) for point in points]
        pixels = max(1, round(width * self.scale))
        self._on_picture.line(corners, fill=color, width=pixels, joint="curve")
        if solid:
            self._on_mask.line(corners, fill=255, width=pixels, joint="curve")

    def sprite(self, category: str, x: float, base: float, rng: np.random.Generator, grain: float = 0.0) -> Sprite:
        """Cut out what was drawn, its foot at canvas place (x, base), with a grainy surface if wanted."""
        picture = self.picture
        if grain:
            pixels = np.asarray(picture, dtype=np.float32)
            rough = rng.normal(1.0, grain, (pixels.shape[0] // 3 + 1, pixels.shape[1] // 3 + 1)).astype(np.float32)
            rough = rough.repeat(3, 0).repeat(3, 1)[: pixels.shape[0], : pixels.shape[1], None]
            picture = Image.fromarray((pixels * rough).clip(0, 255).astype(np.uint8))
        return Sprite(category, picture, self.mask, round(x - self.origin[0]), round(base - self.origin[1]), base)

    def _pixel(self, point: Point) -> Point:
        return self.origin[0] + point[0] * self.scale, self.origin[1] - point[1] * self.scale
