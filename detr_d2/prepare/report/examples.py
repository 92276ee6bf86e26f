"""Segments as small pictures: the photo around each, what isn't of it darkened, its outline drawn."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from detr_d2.data.segments import read_panoptic_png
from detr_d2.errors import UserError
from detr_d2.pages import data_uri

#: Most bytes of all pictures of a page; in its text they take a third more.
BUDGET = 3_200_000
#: Widths to choose from, in pixels; heights are three quarters.
WIDTHS = (400, 320, 260, 220, 180, 140)
_QUALITY = 70
_SAMPLED = 16
#: A picture of twice the width takes 2 ** 1.5 times the bytes: it has more pixels, and smoother ones.
_GROWTH = 1.5
_LEAST_SIDE = 40
_SURROUNDINGS = 0.3
_DARKER = 0.42


@dataclass(frozen=True)
class Wanted:
    """A segment to show.

    Args:
        class_name: of its class.
        segment_id: in the PNG.
        color: red, green, blue of the outline.
    """

    class_name: str
    segment_id: int
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Example:
    """A segment as it is shown.

    Args:
        address: for an ``<img>``.
        file_name: of the picture.
        segment_id: in the PNG.
        area: pixels.
    """

    address: str
    file_name: str
    segment_id: int
    area: int


@dataclass
class _Job:
    """A picture and its segments to show."""

    file_name: str
    png: str
    wanted: list[Wanted] = field(default_factory=list)


def draw_examples(folder: Path, classes: Sequence[Mapping[str, Any]], budget: int = BUDGET) -> dict[str, list[Example]]:
    """The examples of each class, by its name, as large as they may be; what can't be read is left out.

    Args:
        folder: of the dataset.
        classes: of the report, each with its ``examples``.
        budget: bytes of all together.
    """
    jobs = _jobs(classes)
    count = sum(len(job.wanted) for job in jobs)
    width = _fitting_width(folder, jobs, budget / max(count, 1))
    found: dict[tuple[str, str, int], Example] = {}
    with ThreadPoolExecutor(2) as pool:
        for shown in pool.map(lambda job: list(_drawn(folder, job, width)), jobs):
            for class_name, example in shown:
                found[class_name, example.file_name, example.segment_id] = example
    return {
        entry["name"]: [
            found[key]
            for one in entry["examples"]
            if (key := (entry["name"], one["file_name"], one["segment_id"])) in found
        ]
        for entry in classes
    }


def _jobs(classes: Sequence[Mapping[str, Any]]) -> list[_Job]:
    jobs: dict[str, _Job] = {}
    for entry in classes:
        red, green, blue = entry["color"]
        for one in entry["examples"]:
            job = jobs.setdefault(one["file_name"], _Job(one["file_name"], one["png"]))
            job.wanted.append(Wanted(entry["name"], one["segment_id"], (red, green, blue)))
    return list(jobs.values())


def _fitting_width(folder: Path, jobs: Sequence[_Job], most: float) -> int:
    """The largest of :data:`WIDTHS` at which a picture takes about ``most`` bytes or less, as a few say."""
    tried = [replace(job, wanted=job.wanted[:2]) for job in jobs[:: max(1, len(jobs) // _SAMPLED)]]
    sizes = [len(example.address) * 0.75 for job in tried for _, example in _drawn(folder, job, WIDTHS[0])]
    typical = float(np.mean(sizes)) if sizes else 0.0
    return next((width for width in WIDTHS if typical * (width / WIDTHS[0]) ** _GROWTH <= most), WIDTHS[-1])


def _drawn(folder: Path, job: _Job, width: int) -> Iterator[tuple[str, Example]]:
    """Each example of one picture with its class."""
    try:
        ids = read_panoptic_png(str(folder / "panoptic" / job.png))
        masks = [(wanted, mask) for wanted in job.wanted if (mask := ids == wanted.segment_id).any()]
        with Image.open(folder / "images" / job.file_name) as image:
            if image.size != ids.shape[::-1]:
                return
            narrowest = min((_window(mask)[2] - _window(mask)[0] for _, mask in masks), default=1)
            share = min(1.0, width / narrowest)
            image.draft(
                "RGB", (round(image.width * share), round(image.height * share))
            )  # large JPEGs are read smaller
            picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, UserError):
        return
    for wanted, mask in masks:
        address = data_uri(_encode(draw_example(picture, mask, wanted.color, width)), "image/webp")
        area = int(np.count_nonzero(mask))
        yield wanted.class_name, Example(address, job.file_name, wanted.segment_id, area)


def draw_example(picture: Image.Image, mask: np.ndarray, color: tuple[int, int, int], width: int) -> np.ndarray:
    """A segment with something of what is around it.

    Args:
        picture: mode RGB; it may be smaller than the mask.
        mask: (H, W) bool, not empty.
        color: red, green, blue of the outline.
        width: of the result, in pixels; its height is three quarters of it, or less where the picture ends.

    Returns:
        (height, width, 3) uint8.
    """
    left, top, right, bottom = _window(mask)
    scale = width / max(right - left, (bottom - top) * 4 / 3)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    across, down = picture.width / mask.shape[1], picture.height / mask.shape[0]
    shown_box = (left * across, top * down, right * across, bottom * down)
    crop = np.asarray(picture.resize(size, Image.Resampling.BICUBIC, shown_box, reducing_gap=2.0)).astype(np.float32)
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
    """Left, top, right, bottom around a mask: with surroundings, not tiny, 4:3 where the picture allows it."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    wide = max((columns[-1] + 1 - columns[0]) * (1 + _SURROUNDINGS), _LEAST_SIDE)
    high = max((rows[-1] + 1 - rows[0]) * (1 + _SURROUNDINGS), _LEAST_SIDE * 3 / 4)
    wide, high = min(max(wide, high * 4 / 3), width), min(max(high, wide * 3 / 4), height)
    left = min(max((columns[0] + columns[-1] + 1 - wide) / 2, 0), width - wide)
    top = min(max((rows[0] + rows[-1] + 1 - high) / 2, 0), height - high)
    return int(left), int(top), min(int(np.ceil(left + wide)), width), min(int(np.ceil(top + high)), height)


def _encode(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()
