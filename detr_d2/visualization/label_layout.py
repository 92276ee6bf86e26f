"""Names as texts of an image or a figure, and where they stand: on their segments, not on each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import ImageFont
from scipy.ndimage import distance_transform_edt

from detr_d2.errors import printable

#: Longer names are cut.
MOST_CHARACTERS = 80
#: A name that has no place where less than this share of it is covered by other names is left out.
MAX_COVERED = 0.2
#: So many places on a segment are tried.
PLACES_ON_SEGMENT = 60


@dataclass(frozen=True)
class Rectangle:
    """Left, top, right and bottom in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Rectangle) -> float:
        """Common area in square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)


def text_size(text: str, pixels: float) -> tuple[float, float]:
    """Width and height in pixels of a text in the font of matplotlib (and so of Detectron2's ``Visualizer``)."""
    font = text_font(max(round(pixels), 1))
    ascent, descent = font.getmetrics()
    return font.getlength(text), float(ascent + descent)


@lru_cache(maxsize=16)
def text_font(pixels: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's sans-serif font in the size asked for."""
    return ImageFont.truetype(findfont(FontProperties(family=["sans-serif"])), pixels)


def place_labels(
    texts: Sequence[str], masks: Sequence[np.ndarray], stride: float, image_size: tuple[int, int], pixels: float
) -> list[Rectangle | None]:
    """Finds a place for each text, the first ones first.

    Args:
        texts: what is to be written.
        masks: for each text the segment it belongs to, (H / stride, W / stride) bool.
        stride: pixels of the image per pixel of the masks.
        image_size: height and width of the image in pixels.
        pixels: size of the font.

    Returns:
        For each text the rectangle to write it in, or None where it would hide other names.
    """
    placed: list[Rectangle | None] = []
    for text, mask in zip(texts, masks):
        width, height = text_size(text, pixels)
        margin = 0.2 * pixels
        size = (width + 2 * margin, height + margin)
        taken = [rectangle for rectangle in placed if rectangle is not None]
        placed.append(_best_place(mask, stride, size, image_size, taken) if mask.any() else None)
    return placed


def _best_place(
    mask: np.ndarray,
    stride: float,
    size: tuple[float, float],
    image_size: tuple[int, int],
    taken: Sequence[Rectangle],
) -> Rectangle | None:
    """The first place that is free, or the one that is covered least."""
    least, best = float("inf"), None
    for x, y in _centers(mask, stride, size):
        rectangle = _inside(x, y, size, image_size)
        covered = sum(rectangle.overlap(other) for other in taken)
        if covered < least:
            least, best = covered, rectangle
        if covered == 0:
            break
    return best if least <= MAX_COVERED * size[0] * size[1] else None


def _centers(mask: np.ndarray, stride: float, size: tuple[float, float]) -> Iterator[tuple[float, float]]:
    """Points to try: the deepest inside the segment, others inside, then above and below it."""
    depth = _depth(mask)
    step = max(int(size[1] / stride), 1)
    deepest = np.unravel_index(int(depth.argmax()), depth.shape)
    yield (deepest[1] + 0.5) * stride, (deepest[0] + 0.5) * stride

    rows, columns = np.nonzero(mask[::step, ::step])
    order = np.argsort(-depth[rows * step, columns * step], kind="stable")[:PLACES_ON_SEGMENT]
    for index in order:
        yield (columns[index] * step + 0.5) * stride, (rows[index] * step + 0.5) * stride

    rows, columns = np.nonzero(mask)
    middle = (columns.min() + columns.max() + 1) / 2 * stride
    yield middle, rows.min() * stride - size[1] / 2
    yield middle, (rows.max() + 1) * stride + size[1] / 2


def _depth(mask: np.ndarray) -> np.ndarray:
    """(H, W) distance of each pixel of a mask to what isn't of it, beyond the image included; 0 elsewhere."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)  # most masks are small
    depth = np.zeros(mask.shape)
    depth[window] = distance_transform_edt(np.pad(mask[window], 1))[1:-1, 1:-1]
    return depth


def _inside(x: float, y: float, size: tuple[float, float], image_size: tuple[int, int]) -> Rectangle:
    """The rectangle around a point, moved into the image."""
    width, height = size
    left = max(min(x - width / 2, image_size[1] - width), 0.0)
    top = max(min(y - height / 2, image_size[0] - height), 0.0)
    return Rectangle(left, top, left + width, top + height)


def drawn_name(name: str) -> str:
    """A name on one line, of characters that a font has, and short enough for an image."""
    short = name if len(name) <= MOST_CHARACTERS else name[: MOST_CHARACTERS - 1] + "…"
    return printable(" ".join(short.split()))


def figure_text(name: str) -> str:
    """A name as matplotlib draws it as it is: no dollar begins a formula, no underscore hides it from a legend."""
    plain = without_formulas(drawn_name(name))
    return f"\u200b{plain}" if plain.startswith("_") else plain


def without_formulas(text: str) -> str:
    """A text in which no dollar begins a formula of matplotlib's."""
    return text.replace("$", r"\$")
