"""From ``report.json`` to ``report.html``: what is shown is put together here, how it looks is in the template.

Examples are segments as small images: the photo around each, what isn't of it darkened, its outline drawn.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from PIL import Image
from scipy import ndimage

from detr_d2.data.segments import read_panoptic_png
from detr_d2.errors import UserError
from detr_d2.files import open_regular
from detr_d2.labels.image_reading import open_image
from detr_d2.labels.rules.rule import RULES
from detr_d2.pages import data_uri, write_page

_TEMPLATES = Path(__file__).parent / "templates"
_SHOWN_SKIPPED = 200
_FEW = 20
_MAP_SIDE = 860
#: Who a segment is from, in the order of the page.
_SOURCES = {"human": "people", "coco": "COCO", "masks": "masks", "model": "model", "rest": "what was left"}
#: Most bytes of all images of a page; in its text they take a third more.
_BUDGET = 3_200_000
#: Widths of examples to choose from, in pixels; heights are three quarters.
_WIDTHS = (400, 320, 260, 220, 180, 140)
_QUALITY = 70
_SAMPLED = 16
#: An image of twice the width takes 2 ** 1.5 times the bytes: it has more pixels, and smoother ones.
_GROWTH = 1.5
_LEAST_SIDE = 40
_SURROUNDINGS = 0.3
_DARKER = 0.42

_Entry = Mapping[str, Any]


def write_report(out_folder: str | Path, report: _Entry) -> Path:
    """Write ``report.html`` beside ``report.json``.

    Args:
        out_folder: of the dataset: ``images/`` and ``panoptic/``, from which examples are drawn.
        report: the content of ``report.json``.

    Returns:
        The page.
    """
    folder = Path(out_folder)
    kept = [entry for entry in report["classes"] if entry["kept"]]
    return write_page(
        folder / "report.html",
        _TEMPLATES / "report.html",
        title=f"The dataset {report['options'].get('name') or folder.name}",
        report=report,
        totals=_totals(report, kept),
        sources=_source_shares(kept),
        axis=_size_axis(kept),
        classes=[_class_row(entry, number, kept, report) for number, entry in enumerate(kept)],
        lost=[entry for entry in report["classes"] if not entry["kept"] and (entry["dropped"] or entry["id"])],
        examples=draw_examples(folder, kept),
        drops=_drop_table(report),
        renamed=[name for name in report["names"] if name["to"] != name["from"]],
        together=_together_map(report),
        meaning=meaning,
        skipped=report["images"]["skipped"][:_SHOWN_SKIPPED],
        skipped_count=report["images"]["skipped_count"],
    )


def _totals(report: _Entry, kept: Sequence[_Entry]) -> dict[str, Any]:
    labelled = sum(entry["pixels"] for entry in kept)
    everything = report["images"]["pixels"]
    dropped: Counter[str] = Counter()
    for entry in (*report["classes"], *report["names"]):
        dropped.update(entry["dropped"])
    return {
        "things": sum(entry["is_thing"] for entry in kept),
        "stuff": sum(not entry["is_thing"] for entry in kept),
        "segments": sum(entry["kept"] for entry in kept),
        "joined": dropped.pop("joined", 0),
        "dropped": dropped.total(),
        "void": 100 * (1 - labelled / everything) if everything else None,
    }


def _source_shares(kept: Sequence[_Entry]) -> list[dict[str, Any]]:
    """How many segments come from whom; nothing where all are people's."""
    counts: Counter[str] = Counter()
    for entry in kept:
        counts.update(entry["sources"])
    if set(counts) <= {"human"}:
        return []
    return _shares({key: counts[key] for key in _SOURCES if key in counts})


def _shares(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Each source with its name, its number of segments and their share in percent."""
    total = sum(counts.values())
    return [
        {"key": key, "name": _SOURCES[key], "count": count, "share": 100 * count / total}
        for key, count in counts.items()
    ]


def _class_row(entry: _Entry, number: int, kept: Sequence[_Entry], report: _Entry) -> dict[str, Any]:
    """A class as the table and its gallery show it."""
    pixels = [one["pixels"] for one in kept]
    return {
        **entry,
        "anchor": f"class-{number}",
        "others": [name for name in entry["matched_from"] if name != entry["name"]],
        "lost": sum(entry["dropped"].values()),
        "share": 100 * entry["pixels"] / sum(pixels),
        "bar": 100 * entry["pixels"] / max(pixels),
        "spread": _spread(entry["areas"], _size_axis(kept)),
        "side": math.sqrt(entry["areas"][2]) if entry["areas"] else None,
        "warning": _warning(entry, report),
        "from": _shares(entry["sources"]),
    }


def _warning(entry: _Entry, report: _Entry) -> str:
    """What is thin about a class, in a few words; or nothing."""
    images = entry["images"]
    if not images["train"]:
        return "no training"
    if not images["val"] and report["images"]["val"]:
        return "no validation"
    return "few" if entry["is_thing"] and entry["kept"] < _FEW else ""


def _spread(areas: Sequence[float], axis: tuple[float, float]) -> dict[str, float] | None:
    """Where the quantiles of the sizes lie, in percent of an axis in powers of ten."""
    if not areas:
        return None
    start, stop = math.log10(axis[0]), math.log10(max(axis[1], axis[0] * 1.01))
    low, first, median, third, high = (100 * (math.log10(max(area, 1)) - start) / (stop - start) for area in areas)
    return {"low": low, "first": first, "median": median, "third": third, "high": high}


def _size_axis(kept: Sequence[_Entry]) -> tuple[float, float]:
    """The areas of the smallest and the largest segment, in pixels."""
    areas = [entry["areas"] for entry in kept if entry["areas"]]
    return max(1.0, min((area[0] for area in areas), default=1.0)), max((area[4] for area in areas), default=1.0)


def _drop_table(report: _Entry) -> dict[str, Any]:
    """What was dropped: a row for each class that lost something, a column for each reason."""
    rows = [(entry["name"], entry["color"], entry["dropped"]) for entry in report["classes"] if entry["dropped"]]
    rows += [(name["from"], None, name["dropped"]) for name in report["names"] if name["dropped"]]
    totals: Counter[str] = Counter()
    for _, _, dropped in rows:
        totals.update(dropped)
    reasons = [reason for reason, _ in totals.most_common()]
    return {
        "reasons": [{"code": reason, "count": totals[reason], "meaning": meaning(reason)} for reason in reasons],
        "rows": [
            {"name": name, "color": color, "counts": [dropped.get(r) for r in reasons], "sum": sum(dropped.values())}
            for name, color, dropped in rows
        ],
    }


def _together_map(report: _Entry) -> dict[str, Any]:
    """The classes that are in images together: of the images with a row's class, the share with a column's."""
    names, counts = report["cooccurrence"]["names"], report["cooccurrence"]["counts"]
    shown = [number for number in range(len(names)) if counts[number][number]]
    side = max(8, min(26, _MAP_SIDE // max(len(shown), 1)))
    cells = []
    for row, first in enumerate(shown):
        for column, second in enumerate(shown):
            together, alone = counts[first][second], counts[first][first]
            if together and first != second:
                title = f"{names[first]} and {names[second]}: {together} of {alone} images"
                cells.append((column * side, row * side, round(together / alone, 2), title))
    return {
        "names": [names[number] for number in shown],
        "side": side,
        "cells": cells,
        "size": side * len(shown),
        "label": 7 * max((len(names[number]) for number in shown), default=0) * min(side, 12) / 12,
    }


def meaning(code: str) -> str:
    """A code in words, or nothing where it says it all."""
    rule = RULES.get(code)
    return _meanings().get(code) or (f"{rule.advice}; here: {rule.fixed}".replace("`", "") if rule else "")


@cache
def _meanings() -> dict[str, str]:
    found: dict[str, str] = yaml.safe_load((_TEMPLATES / "meanings.yaml").read_text(encoding="utf-8"))
    return found


class Example(NamedTuple):
    """A drawn segment: its address for an ``<img>``, its area in pixels, and its image's name."""

    address: str
    area: int
    file_name: str


#: A class's name and colour, and which segment of which image is its example.
_Wanted = tuple[str, tuple[int, int, int], _Entry]


def draw_examples(folder: Path, classes: Sequence[_Entry], budget: int = _BUDGET) -> dict[str, list[Example]]:
    """The examples of each class, by its name, as large as they may be; what can't be read is left out.

    Args:
        folder: of the dataset.
        classes: of the report, each with its ``examples``.
        budget: bytes of all together.
    """
    by_image: dict[str, list[_Wanted]] = {}  # so that each is read once
    for entry in classes:
        for one in entry["examples"]:
            by_image.setdefault(one["file_name"], []).append((entry["name"], tuple(entry["color"]), one))
    wanted = list(by_image.values())
    width = _fitting_width(folder, wanted, budget / max(sum(map(len, wanted)), 1))
    with ThreadPoolExecutor(2) as pool:
        drawn = dict(chain.from_iterable(pool.map(lambda group: _drawn(folder, group, width), wanted)))
    return {
        entry["name"]: [drawn[key] for one in entry["examples"] if (key := _key(entry["name"], one)) in drawn]
        for entry in classes
    }


def _key(name: str, one: _Entry) -> tuple[str, str, int]:
    return name, one["file_name"], one["segment_id"]


def _fitting_width(folder: Path, wanted: Sequence[Sequence[_Wanted]], most: float) -> int:
    """The largest of :data:`_WIDTHS` at which an example takes about ``most`` bytes or less, as a few say."""
    tried = [group[:2] for group in wanted[:: max(1, len(wanted) // _SAMPLED)]]
    sizes = [len(one.address) * 0.75 for group in tried for _, one in _drawn(folder, group, _WIDTHS[0])]
    typical = float(np.mean(sizes)) if sizes else 0.0
    return next((width for width in _WIDTHS if typical * (width / _WIDTHS[0]) ** _GROWTH <= most), _WIDTHS[-1])


def _drawn(folder: Path, group: Sequence[_Wanted], width: int) -> list[tuple[tuple[str, str, int], Example]]:
    """The examples of one image, drawn."""
    file_name, png = group[0][2]["file_name"], group[0][2]["png"]
    try:
        ids = read_panoptic_png(str(folder / "panoptic" / png))
        masks = [(*one, mask) for one in group if (mask := ids == one[2]["segment_id"]).any()]
        with open_regular(folder / "images" / file_name) as file, open_image(file) as image:
            if image.size != ids.shape[::-1]:
                return []
            narrowest = min((_window(mask)[2] - _window(mask)[0] for *_, mask in masks), default=1)
            share = min(1.0, width / narrowest)
            image.draft("RGB", (round(image.width * share), round(image.height * share)))  # large JPEGs, read smaller
            photo = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, UserError):
        return []
    drawn = []
    for name, color, one, mask in masks:
        buffer = io.BytesIO()
        Image.fromarray(draw_example(photo, mask, color, width)).save(buffer, "WEBP", quality=_QUALITY, method=2)
        address = data_uri(buffer.getvalue(), "image/webp")
        drawn.append((_key(name, one), Example(address, int(np.count_nonzero(mask)), file_name)))
    return drawn


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
