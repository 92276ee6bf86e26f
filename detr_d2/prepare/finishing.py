"""The last steps, once every image is prepared: split, numbers, JSON and yaml, written image by image, report."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from detr_d2.data.categories import Category, coco_categories, construction_categories
from detr_d2.data.registration import write_register
from detr_d2.errors import DatasetError
from detr_d2.files import write_text
from detr_d2.labels.rules.categories import near_pairs
from detr_d2.wording import counted

from .classes import ClassTable
from .drawing import Segment
from .journal import ImageResult, Journal
from .options import PrepareOptions
from .split import SPLITS, Split, split_images
from .summary import Summary

MARKER = "report.json"
"""A folder with this file was made by this module and may be made again."""

FILES = {"images", "panoptic", "categories.yaml", "register.yaml", "report.html"} | {
    f"{kind}_{split}.json" for kind in ("panoptic", "instances") for split in SPLITS
}

_SHOWN = 10
#: The share of validation may differ by this much from the one asked for before that is said.
_SHARE_OFF = 0.02


def finish(
    journal: Journal, keys: Sequence[str], options: PrepareOptions, summary: Summary, policy: str, started: float
) -> dict[str, Any]:
    """Split prepared images, write all files of the dataset but the images, and return the report.

    Args:
        journal: of all images.
        keys: of the images, in their order.
        options: see there.
        summary: gets to know every image.
        policy: how the stuff was labelled, for the report.
        started: ``time.monotonic()`` at the start.

    Raises:
        DatasetError: no image is left.
    """
    table, folder = summary.table, journal.data
    usable, split = _split(journal, keys, options, summary)
    sides = split.is_val.tolist()

    def images(side: bool | None = None) -> Iterator[tuple[int, ImageResult]]:
        """All images with their ids, or those of one side."""
        ids = [image_id for image_id, is_val in enumerate(sides, 1) if side in (None, is_val)]
        return zip(ids, journal.results([usable[image_id - 1] for image_id in ids]))

    for image_id, result in images():
        summary.add(result, image_id, SPLITS[sides[image_id - 1]])
    categories = _categories(table, summary.used())
    written = sorted((category for category in categories if category), key=lambda category: category.id)
    summary.warnings += _warnings(split, [category.name for category in categories if category], options, summary)
    ids = [category.id if category else 0 for category in categories]
    splits = SPLITS if any(sides) else SPLITS[:1]
    for side, name in enumerate(splits):
        write_split(folder, name, partial(images, bool(side)), ids, written)
    write_categories(folder, written)
    write_register(folder, options.dataset_name, splits)
    _sweep(folder, images())
    report = summary.report(_chosen(options, policy), categories, images(), time.monotonic() - started)
    write_text(folder / MARKER, json.dumps(report, indent=1, ensure_ascii=False))
    from .report import write_report  # draws, which only this step needs

    write_report(folder, report)
    return report


def _split(journal: Journal, keys: Sequence[str], options: PrepareOptions, summary: Summary) -> tuple[list[str], Split]:
    """The keys of usable images, and their split."""
    usable, classes, looks = [], [], []
    reasons: Counter[str] = Counter()
    example = ""
    for key, result in zip(keys, journal.results(keys)):
        if result.skipped:
            summary.add_skipped(result)
            reasons[result.skipped] += 1
            example = example or result.why
            continue
        usable.append(key)
        classes.append(tuple({segment.class_number for segment in result.segments}))
        looks.append(result.look)
    if reasons:
        shown = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        left_out = f"{counted(reasons.total(), 'image was', 'images were')} left out: {shown}."
        summary.warnings.append(left_out)
        if not usable:
            raise DatasetError(f"no image is left. {left_out} The first one: {example}")
    return usable, split_images(classes, looks, options.val, options.seed, len(summary.table.classes))


def _categories(table: ClassTable, used: Sequence[bool]) -> list[Category | None]:
    """What each class of the table becomes; of ``auto`` those without a segment become nothing."""
    if table.is_fixed:
        return list(table.classes)
    numbers = itertools.count(1)
    return [replace(category, id=next(numbers)) if is_used else None for category, is_used in zip(table.classes, used)]


def _warnings(split: Split, written: Sequence[str], options: PrepareOptions, summary: Summary) -> Iterator[str]:
    """What there is to say of the split and of the classes' names."""
    names = [category.name for category in summary.table.classes]
    if split.torn:
        torn = ", ".join(names[number] for number in split.torn)
        yield f"on one side of the split only, as classes contradict one another: {torn}."
    single = [name for name, count in zip(names, summary.image_counts()) if count == 1]
    if single and split.is_val.any():
        shown = ", ".join(single[:_SHOWN]) + (" ..." if len(single) > _SHOWN else "")
        classes = counted(len(single), "class is", "classes are")
        yield f"{classes} in one image only, so on one side of the split: {shown}."
    if options.val and not split.is_val.any():
        yield "there is no validation, as all images look the same or there is only one."
    if split.is_val.any() and (why := _why_another_share(split, options.val)):
        yield why
    if split.joined:
        alike = counted(split.joined, "image looks", "images look")
        yield f"{alike} like another one; such images are on one side of the split."
    if holed := summary.note_count("polygon-holes"):
        done = "cut out (--holes fill fills them)" if options.holes == "cut" else "filled"
        yield f"{holed} labels have polygons inside polygons, which are holes; they were {done}."
    published = [[one.name for one in listed] for listed in (coco_categories(), construction_categories())]
    for first, second in near_pairs(written, published) if not summary.table.is_fixed else ():
        yield f"the classes {first!r} and {second!r} are alike; --classes can make them one."


def _sweep(folder: Path, images: Iterable[tuple[int, ImageResult]]) -> None:
    """Removes what an interrupted run of other images left."""
    wanted = {name for _, one in images for name in (f"images/{one.file_name}", f"panoptic/{one.png}")}
    for part in ("images", "panoptic"):
        for parent, folders, files in os.walk(folder / part, topdown=False):
            for path in (Path(parent, name) for name in files):
                if path.relative_to(folder).as_posix() not in wanted:
                    path.unlink()
            for path in (Path(parent, name) for name in folders):
                if not any(path.iterdir()):
                    path.rmdir()


def _chosen(options: PrepareOptions, policy: str) -> dict[str, Any]:
    """The options as the report has them; nothing that leaves the dataset as it is."""
    return {
        "out": options.out.name,
        "name": options.dataset_name,
        "val": options.val,
        "seed": options.seed,
        "categories": options.categories,
        "classes": str(options.classes) if options.classes else None,
        "crowd": options.crowds,
        "overlap": options.overlap,
        "holes": options.holes,
        "min_area": options.min_area,
        "images": options.images,
        "stuff": policy,
    }


def _why_another_share(split: Split, val: float) -> str:
    """What there is to say where validation has another share of the images than was asked for; or nothing."""
    count, found = len(split.is_val), int(split.is_val.sum())
    share = found / count
    if abs(share - val) <= _SHARE_OFF:
        return ""
    reasons = ["each class of several images is on both sides"] if found != split.wanted else []
    if split.largest > 1:
        reasons.append(f"images that look alike are on one side (up to {split.largest} of them)")
    reasons = reasons or [f"there are only {count} of them"]
    return (
        f"validation has {found} of {count} images, {share:.0%}, where --val asks for {val:.0%}: "
        f"{', and '.join(reasons)}."
    )


def write_split(
    folder: Path,
    split: str,
    results: Callable[[], Iterable[tuple[int, ImageResult]]],
    ids: Sequence[int],
    categories: Sequence[Category],
) -> None:
    """Write ``panoptic_<split>.json`` and, where there are classes of things, ``instances_<split>.json``.

    Args:
        folder, split: of the dataset, and ``train`` or ``val``.
        results: gives the images of the split and their ids, anew each time.
        ids: for each index in the class table the category's id, or 0 where it has no segment.
        categories: in the order of their ids.
    """

    def images() -> Iterator[dict[str, Any]]:
        for image_id, result in results():
            yield {"id": image_id, "file_name": result.file_name, "width": result.width, "height": result.height}

    entries = [{**one.to_json(), "supercategory": one.name} for one in categories]
    annotations = (_annotation(image_id, result, ids) for image_id, result in results())
    _write(folder / f"panoptic_{split}.json", images=images(), annotations=annotations, categories=entries)
    things = [entry for entry in entries if entry["isthing"]]
    if things:
        instances = _instances(results(), ids)
        _write(folder / f"instances_{split}.json", images=images(), annotations=instances, categories=things)


def _measured(segment: Segment, ids: Sequence[int]) -> dict[str, Any]:
    """What both files say of a segment, but its id."""
    described = {"category_id": ids[segment.class_number], "iscrowd": int(segment.is_crowd)}
    return {**described, "area": segment.area, "bbox": list(segment.bbox)}


def _annotation(image_id: int, result: ImageResult, ids: Sequence[int]) -> dict[str, Any]:
    segments = []
    for segment in result.segments:
        score = {} if segment.score is None else {"score": segment.score}
        segments.append({"id": segment.id, **_measured(segment, ids), "source": segment.source, **score})
    return {"image_id": image_id, "file_name": result.png, "segments_info": segments}


def _instances(results: Iterable[tuple[int, ImageResult]], ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The things as COCO instances; their ids count from 1 on."""
    things = ((image_id, result, one) for image_id, result in results for one in result.segments if one.runs)
    for number, (image_id, result, segment) in enumerate(things, 1):
        runs = {"size": [result.height, result.width], "counts": segment.runs}
        yield {"id": number, "image_id": image_id, **_measured(segment, ids), "segmentation": runs}


def _write(path: Path, **lists: Iterable[dict[str, Any]]) -> None:
    """A COCO JSON, an entry a line, none of them kept."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "made by detr-d2 prepare"},\n"licenses": []')
        for name, entries in lists.items():
            file.write(f',\n"{name}": [')
            for number, entry in enumerate(entries):
                file.write((",\n" if number else "\n") + json.dumps(entry, ensure_ascii=False))
            file.write("]")
        file.write("}\n")


def write_categories(folder: Path, categories: Iterable[Category]) -> None:
    """Write ``categories.yaml``, which ``--categories`` reads; a category a line."""
    style: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "allow_unicode": True, "width": 10_000}
    lines = [f"- {yaml.safe_dump(category.to_json(), **style)}" for category in categories]
    (folder / "categories.yaml").write_text("".join(lines), encoding="utf-8")
