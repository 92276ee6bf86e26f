"""What drawings are made of: coloured segments, the borders between them, boxes and names.

The results look as those of Detectron2's ``Visualizer``, pixel by pixel instead of polygon by polygon: the same on each
machine, and several times as fast. The ``Visualizer`` itself takes this project's metadata and results as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from detr_d2.visualization.class_style import Color
from detr_d2.visualization.label_layout import Rectangle, text_font, text_size

_PLATE = (0, 0, 0, 204)  # black, four fifths opaque
_LINE_OPACITY = 0.9


def number_segments(ids: np.ndarray, segment_ids: Sequence[int]) -> np.ndarray:
    """(H, W) for each pixel 1 + the place of its id in ``segment_ids``, 0 where the id isn't there."""
    order = np.argsort(segment_ids)
    known = np.array([*np.asarray(segment_ids, dtype=np.int64)[order], np.iinfo(np.int64).max])
    places = np.searchsorted(known, ids)
    numbers = np.array([*(order + 1), 0])
    return np.where(known[places] == ids, numbers[places], 0)


def paint_segments(image: np.ndarray, numbers: np.ndarray, colors: Sequence[Color], opacity: float) -> np.ndarray:
    """The image (H, W, 3) uint8 with each numbered pixel mixed with its segment's colour; number 0 stays bare."""
    paint = np.array([(0, 0, 0), *colors]) * 255 * opacity
    share = np.array([1.0] + [1 - opacity] * len(colors))
    table = (share[:, None, None] * np.arange(256) + paint[:, :, None] + 0.5).clip(0, 255).astype(np.uint8)
    painted = [table[:, channel][numbers, image[:, :, channel]] for channel in range(3)]
    return np.stack(painted, axis=-1)


def draw_borders(
    image: np.ndarray, numbers: np.ndarray, width: int, color: tuple[int, int, int] = (255, 255, 255)
) -> np.ndarray:
    """The image with a line of about ``width`` pixels between segments, also between two of the same class."""
    border = np.zeros(numbers.shape, dtype=bool)
    border[:, 1:] |= numbers[:, 1:] != numbers[:, :-1]
    border[1:, :] |= numbers[1:, :] != numbers[:-1, :]
    for _ in range(width - 1):
        border[:, :-1] |= border[:, 1:]
        border[:-1, :] |= border[1:, :]
    drawn = image.copy()
    drawn[border] = ((1 - _LINE_OPACITY) * image[border] + _LINE_OPACITY * np.array(color)).astype(np.uint8)
    return drawn


def draw_boxes(image: np.ndarray, boxes: np.ndarray, colors: Sequence[Color], width: int) -> np.ndarray:
    """The image with outlines of boxes (N, 4), corners x0, y0, x1, y1 in pixels, ``width`` pixels wide."""
    drawn = Image.fromarray(image)
    draw = ImageDraw.Draw(drawn)
    for (x0, y0, x1, y1), color in zip(boxes.tolist(), colors):
        draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), outline=_rgb(color), width=width)
    return np.asarray(drawn)


def write_texts(
    image: np.ndarray,
    texts: Sequence[str],
    places: Sequence[Rectangle | None],
    colors: Sequence[Color],
    pixels: float,
) -> np.ndarray:
    """The image with each text on a dark plate at its place; those without a place are left out.

    Args:
        image: (H, W, 3) uint8, RGB.
        texts: what to write.
        places: see :func:`detr_d2.visualization.place_labels`.
        colors: of the letters.
        pixels: size of the font.
    """
    drawn = Image.fromarray(image)
    draw = ImageDraw.Draw(drawn, "RGBA")  # so that the plate is mixed with what it covers
    for text, place, color in zip(texts, places, colors):
        if place is None:
            continue
        width, height = text_size(text, pixels)
        middle = (place.left + place.right) / 2
        draw.rectangle((middle - width / 2 - 1, place.top, middle + width / 2 + 1, place.top + height), fill=_PLATE)
        font = text_font(max(round(pixels), 1))
        draw.text((middle, place.top), text, fill=(*_rgb(color), 255), font=font, anchor="ma")
    return np.asarray(drawn)


def _rgb(color: Color) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in color)
    return red, green, blue
