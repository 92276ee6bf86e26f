"""Segments over a photo, fast and small: colours, borders, names."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from detr_d2.pages import data_uri
from detr_d2.visualization import place_labels, text_font
from detr_d2.visualization.figure_text import drawn_name

Color = tuple[int, int, int]
#: The long side of an image in the page, in pixels.
LONG_SIDE = 640
_ALPHA = 0.55
_FONT_PIXELS = 14
#: Names are placed on a map so many times smaller.
_STRIDE = 4


def view_size(height: int, width: int, long_side: int = LONG_SIDE) -> tuple[int, int]:
    """Height and width at which an image is shown: large ones shrunk, small ones enlarged by a whole factor."""
    longest = max(height, width)
    scale = long_side / longest if longest > long_side else long_side // longest
    return max(round(height * scale), 1), max(round(width * scale), 1)


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A photo (H, W, 3) uint8 at another height and width, smoothly."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC, reducing_gap=3.0))


def resized_map(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map of ids (H, W) at another height and width: each pixel has the id of the nearest one."""
    rows = ((np.arange(size[0]) + 0.5) * ids.shape[0] / size[0]).astype(np.int64)
    columns = ((np.arange(size[1]) + 0.5) * ids.shape[1] / size[1]).astype(np.int64)
    return ids[rows[:, None], columns]


def colored(photo: np.ndarray, ids: np.ndarray, colors: Mapping[int, Color], alpha: float = _ALPHA) -> np.ndarray:
    """The photo with each segment that has a colour tinted in it."""
    found, places = np.unique(ids, return_inverse=True)
    table = np.array([colors.get(int(i), (0, 0, 0)) for i in found], dtype=np.float32)
    strength = np.array([alpha * (int(i) in colors) for i in found], dtype=np.float32)
    places = places.reshape(ids.shape)
    share = strength[places][..., None]
    return (photo * (1 - share) + table[places] * share + 0.5).astype(np.uint8)


def bordered(photo: np.ndarray, ids: np.ndarray, color: Color = (255, 255, 255)) -> np.ndarray:
    """The photo with lines of one pixel between the segments."""
    edges = np.zeros(ids.shape, dtype=bool)
    edges[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edges[1:] |= ids[1:] != ids[:-1]
    result = photo.copy()
    result[edges] = color
    return result


def named(photo: np.ndarray, texts: Sequence[str], masks: Sequence[np.ndarray]) -> np.ndarray:
    """The photo with a text on each mask (H, W) bool, where there is room; the first ones first."""
    small = [mask[::_STRIDE, ::_STRIDE] for mask in masks]
    shown = [drawn_name(text) for text in texts]
    places = place_labels(shown, small, _STRIDE, photo.shape[:2], _FONT_PIXELS)
    image = Image.fromarray(photo)
    draw = ImageDraw.Draw(image, "RGBA")
    for text, place in zip(shown, places):
        if place is not None:
            draw.rectangle((place.left, place.top, place.right, place.bottom), fill=(0, 0, 0, 170))
            middle = (place.left + place.right) / 2, (place.top + place.bottom) / 2
            draw.text(middle, text, fill=(255, 255, 255), font=text_font(_FONT_PIXELS), anchor="mm")
    return np.asarray(image)


def greyed(photo: np.ndarray) -> np.ndarray:
    """The photo in pale grey, as a ground for colours that mean something else than classes."""
    grey = photo.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat((60 + grey * 0.72)[..., None], 3, axis=2).astype(np.uint8)


def address_of(picture: np.ndarray, quality: int = 68) -> str:
    """An image (H, W, 3) uint8 as an address with its own bytes in it, as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=1)
    return data_uri(buffer.getvalue(), "image/webp")
