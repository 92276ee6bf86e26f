"""Segments as small images: the photo around each, what isn't of it darkened, its outline drawn."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from detr_d2.data.segments import read_panoptic_png
from detr_d2.errors import UserError
from detr_d2.pages import data_uri

#: Most bytes of all images of a page; in its text they take a third more.
BUDGET = 3_200_000
#: Widths to choose from, in pixels; heights are three quarters.
WIDTHS = (400, 320, 260, 220, 180, 140)
_QUALITY = 70
_SAMPLED = 16
#: A image of twice the width takes 2 ** 1.5 times the bytes: it has more pixels, and smoother ones.
_GROWTH = 1.5
_LEAST_SIDE = 40
_SURROUNDINGS = 0.3
_DARKER = 0.42


@dataclass(frozen=True)
class Example:
    """A segment to show, and how.

    Args:
        class_name: of its class.
        file_name, png: of its image and its masks, below ``images/`` and ``panoptic/``.
        segment_id: in the PNG.
        color: red, green, blue of the outline.
        address: for an ``<img>``, once it is drawn.
        area: pixels, once it is drawn.
    """

    class_name: str
    file_name: str
    png: str
    segment_id: int
    color: tuple[int, int, int]
    address: str = ""
    area: int = 0


def draw_examples(folder: Path, classes: Sequence[Mapping[str, Any]], budget: int = BUDGET) -> dict[str, list[Example]]:
    """The examples of each class, by its name, as large as they may be; what can't be read is left out.

    Args:
        folder: of the dataset.
        classes: of the report, each with its ``examples``.
        budget: bytes of all together.
    """
    wanted: dict[str, list[Example]] = {}  # by image, so that each is read once
    for entry in classes:
        for one in entry["examples"]:
            name, (red, green, blue) = one["file_name"], entry["color"]
            example = Example(entry["name"], name, one["png"], one["segment_id"], (red, green, blue))
            wanted.setdefault(name, []).append(example)
    width = _fitting_width(folder, list(wanted.values()), budget / max(sum(map(len, wanted.values())), 1))
    with ThreadPoolExecutor(2) as pool:
        drawn = pool.map(lambda examples: list(_drawn(folder, examples, width)), wanted.values())
        found = {(one.class_name, one.file_name, one.segment_id): one for examples in drawn for one in examples}
    shown: dict[str, list[Example]] = {}
    for entry in classes:
        keys = [(entry["name"], one["file_name"], one["segment_id"]) for one in entry["examples"]]
        shown[entry["name"]] = [found[key] for key in keys if key in found]
    return shown


def _fitting_width(folder: Path, wanted: Sequence[Sequence[Example]], most: float) -> int:
    """The largest of :data:`WIDTHS` at which an example takes about ``most`` bytes or less, as a few say."""
    tried = [examples[:2] for examples in wanted[:: max(1, len(wanted) // _SAMPLED)]]
    sizes = [len(one.address) * 0.75 for examples in tried for one in _drawn(folder, examples, WIDTHS[0])]
    typical = float(np.mean(sizes)) if sizes else 0.0
    return next((width for width in WIDTHS if typical * (width / WIDTHS[0]) ** _GROWTH <= most), WIDTHS[-1])


def _drawn(folder: Path, examples: Sequence[Example], width: int) -> Iterator[Example]:
    """The examples of one image, drawn."""
    try:
        ids = read_panoptic_png(str(folder / "panoptic" / examples[0].png))
        masks = [(one, mask) for one in examples if (mask := ids == one.segment_id).any()]
        with Image.open(folder / "images" / examples[0].file_name) as image:
            if image.size != ids.shape[::-1]:
                return
            narrowest = min((_window(mask)[2] - _window(mask)[0] for _, mask in masks), default=1)
            share = min(1.0, width / narrowest)
            image.draft("RGB", (round(image.width * share), round(image.height * share)))  # large JPEGs, read smaller
            photo = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, UserError):
        return
    for one, mask in masks:
        buffer = io.BytesIO()
        Image.fromarray(draw_example(photo, mask, one.color, width)).save(buffer, "WEBP", quality=_QUALITY, method=2)
        address = data_uri(buffer.getvalue(), "image/webp")
        yield replace(one, address=address, area=int(np.count_nonzero(mask)))


def draw_example(image: Image.Image, mask: np.ndarray, color: tuple[int, int, int], width: int) -> np.ndarray:
    """A segment with something of what is around it.

    Args:
        image: mode RGB; it may be smaller than the mask.
        mask: (H, W) bool, not empty.
        color: red, green, blue of the outline.
        width: of the result, in pixels; its height is three quarters of it, or less where the image ends.

    Returns:
        (height, width, 3) uint8.
    """
    left, top, right, bottom = _window(mask)
    scale = width / max(right - left, (bottom - top) * 4 / 3)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    across, down = image.width / mask.shape[1], image.height / mask.shape[0]
    shown_box = (left * across, top * down, right * across, bottom * down)
    crop = np.asarray(image.resize(size, Image.Resampling.BICUBIC, shown_box, reducing_gap=2.0)).astype(np.float32)
    part = Image.fromarray(mask[top:bottom, left:right].astype(np.uint8) * 255)
    inside = np.asarray(part.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)) > 127
    if not inside.any():
        inside = np.asarray(part.resize(size, Image.Resampling.BOX)) > 0
    grey = crop.mean(axis=2, keepdims=True)
    shown = np.where(inside[:, :, None], crop, (0.5 * crop + 0.5 * grey) * (1 - _DARKER))
    around = ndimage.binary_dilation(inside, iterations=2) & ~inside
    shown[around] = color
    shown[ndimage.binary_dilation(around, iterations=1) & ~around & ~inside] = 255
    return shown.round().astype(np.uint8)


def _window(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom around a mask: with surroundings, not tiny, 4:3 where the image allows it."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    wide = max((columns[-1] + 1 - columns[0]) * (1 + _SURROUNDINGS), _LEAST_SIDE)
    high = max((rows[-1] + 1 - rows[0]) * (1 + _SURROUNDINGS), _LEAST_SIDE * 3 / 4)
    wide, high = min(max(wide, high * 4 / 3), width), min(max(high, wide * 3 / 4), height)
    left = min(max((columns[0] + columns[-1] + 1 - wide) / 2, 0), width - wide)
    top = min(max((rows[0] + rows[-1] + 1 - high) / 2, 0), height - high)
    return int(left), int(top), min(int(np.ceil(left + wide)), width), min(int(np.ceil(top + high)), height)
