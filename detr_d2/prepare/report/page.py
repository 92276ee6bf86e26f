"""From ``report.json`` to ``report.html``: what is shown is put together here, how it looks is in the template."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detr_d2.labels.rules.rule import RULES
from detr_d2.pages import write_page

from .examples import draw_examples

_TEMPLATE = Path(__file__).parent / "templates" / "report.html"
_SHOWN_SKIPPED = 200
_FEW = 20
_MAP_SIDE = 860


def write_report(out_folder: str | Path, report: Mapping[str, Any]) -> Path:
    """Write ``report.html`` beside ``report.json``.

    Args:
        out_folder: of the dataset: ``images/`` and ``panoptic/``, from which examples are drawn.
        report: the content of ``report.json``.

    Returns:
        The page.
    """
    folder = Path(out_folder)
    kept = [entry for entry in report["classes"] if entry["kept"]]
    examples = draw_examples(folder, kept)
    return write_page(
        folder / "report.html",
        _TEMPLATE,
        title=f"The dataset {report['options'].get('name') or folder.name}",
        report=report,
        totals=_totals(report, kept),
        sources=_source_shares(kept),
        axis=_size_axis(kept),
        classes=[_class_row(entry, number, kept, report) for number, entry in enumerate(kept)],
        lost=[entry for entry in report["classes"] if not entry["kept"] and (entry["dropped"] or entry["id"])],
        examples=examples,
        drops=_drop_table(report),
        renamed=[name for name in report.get("names", ()) if name["to"] != name["from"]],
        together=_together_map(report),
        meaning=meaning,
        skipped=report["images"]["skipped"][:_SHOWN_SKIPPED],
        skipped_count=report["images"].get("skipped_count", len(report["images"]["skipped"])),
    )


def _totals(report: Mapping[str, Any], kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    labelled = sum(entry["pixels"] for entry in kept)
    everything = report["images"].get("pixels")
    dropped: Counter[str] = Counter()
    for entry in (*report["classes"], *report.get("names", ())):
        dropped.update(entry.get("dropped", {}))
    return {
        "things": sum(entry["is_thing"] for entry in kept),
        "stuff": sum(not entry["is_thing"] for entry in kept),
        "segments": sum(entry["kept"] for entry in kept),
        "joined": dropped.pop("joined", 0),
        "dropped": dropped.total(),
        "void": 100 * (1 - labelled / everything) if everything else None,
    }


def _source_shares(kept: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many segments come from whom; nothing where all are people's."""
    counts: Counter[str] = Counter()
    for entry in kept:
        counts.update(entry.get("sources", {}))
    if set(counts) <= {"human"}:
        return []
    order = list(SOURCES)
    return _shares({key: counts[key] for key in sorted(counts, key=lambda key: (*order, key).index(key))})


def _shares(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Each source with its name, its number of segments and their share in percent."""
    total = sum(counts.values())
    return [
        {"key": key, "name": SOURCES.get(key, key), "count": count, "share": 100 * count / total}
        for key, count in counts.items()
    ]


def _class_row(
    entry: Mapping[str, Any], number: int, kept: Sequence[Mapping[str, Any]], report: Mapping[str, Any]
) -> dict[str, Any]:
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
        "from": _shares(entry.get("sources", {})),
    }


def _warning(entry: Mapping[str, Any], report: Mapping[str, Any]) -> str:
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


def _size_axis(kept: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The areas of the smallest and the largest segment, in pixels."""
    areas = [entry["areas"] for entry in kept if entry["areas"]]
    return max(1.0, min((area[0] for area in areas), default=1.0)), max((area[4] for area in areas), default=1.0)


def _drop_table(report: Mapping[str, Any]) -> dict[str, Any]:
    """What was dropped: a row for each class that lost something, a column for each reason."""
    rows = [(entry["name"], entry["color"], entry["dropped"]) for entry in report["classes"] if entry["dropped"]]
    rows += [(name["from"], None, name["dropped"]) for name in report.get("names", ()) if name.get("dropped")]
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


def _together_map(report: Mapping[str, Any]) -> dict[str, Any]:
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


_MEANINGS = {
    "left-out": "labels of a class that --classes or the list of categories leaves out",
    "void": "labels of a class that --classes makes void: their pixels belong to nobody",
    "joined": "pieces of an object that was cut into several labels; they are one segment now",
    "covered": "hidden below other labels, to the last pixel",
    "small": "fewer visible pixels than --min-area; they became void",
    "mask-empty": "labels that cover no pixel",
    "shape-broken": "outlines or run lengths that can't be drawn",
    "crowd-cleared": "classes with nothing but CVAT's brush masks, which are written as crowds; they are objects now",
    "crowd-kept": "classes with crowds and with objects; the crowds stay, and aren't trained on",
    "crowd-value": "labels whose iscrowd is neither 0 nor 1; taken for 0",
    "mask-box": "labels without an outline but with a box, which is their mask",
    "mask-type": "labels whose outline is neither polygons nor run lengths",
    "box-empty": "boxes without an area",
    "polygon-points": "outlines of fewer than three points, or of points that are no numbers",
    "polygon-holes": "labels with polygons inside polygons, which are holes; they are cut out, or filled (--holes)",
    "rle-counts": "masks whose run lengths don't fill their size",
    "rle-size": "masks of another size than their image",
    "shape-number": "shapes with something else than numbers",
    "shape-undrawn": "lines and points, which cover no pixels",
    "shape-unknown": "shapes that CVAT's format doesn't have",
    "label-duplicate": "labels that are there twice",
    "category-unknown": "labels of a class that their file doesn't list",
    "attribute-unused": "attributes of labels, which a dataset has no place for",
    "objects-missing": "images with masks of classes but not of objects; all of a class in one is one object",
    "labels-unchanged": "exports with images that have the labels of BASE (--only-changed); these are left out",
    "json-key": "entries that lack something",
    "json-type": "images whose width or height is no number of pixels; their own size counts",
    "id-duplicate": "entries with an id that was there before",
    "id-range": "segments with an id that a PNG can't have",
    "image-unknown": "labels of images that their file doesn't list",
    "path-escape": "names of images that lead out of the export",
    "path-duplicate": "images listed twice; their labels were put together, unless their sizes differ",
    "png-missing": "panoptic PNGs that aren't there",
    "png-mode": "masks that aren't PNGs",
    "stuff-mask-missing": "images without a mask in the folder of --stuff masks; their rest is void",
    "coco-few": "fewer images of COCO than --coco-images asked for",
    "exif-applied": "images turned upright as their EXIF tag says, as they were when they were labelled",
    "exif-refused": "images that were labelled unturned; saved so, without the EXIF tag",
    "exif-unsure": "images turned as their EXIF tag says; their size doesn't tell whether the labels fit",
    "image-mode": "images with a palette, transparency, inks or 16 bits; saved with 8 bits a channel",
    "image-frames": "files of several images; the first one was taken",
    "image-broken": "images that can't be read",
    "image-missing": "images that aren't there",
    "image-size": "images of another size than their labels",
    "image-large": "images beyond what Pillow takes for safe to open",
    "labels-broken": "images whose labels, or whose stuff, can't be read",
    "no-segment": "images without a label, or with none left",
}

#: Who a segment is from, in the order of the page.
SOURCES = {
    "human": "people",
    "coco": "COCO",
    "masks": "masks",
    "model": "model",
    "rest": "what was left",
}


def meaning(code: str) -> str:
    """A code in words, or nothing where it says it all."""
    rule = RULES.get(code)
    return _MEANINGS.get(code) or (f"{rule.advice}; here: {rule.fixed}".replace("`", "") if rule else "")
