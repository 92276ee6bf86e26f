"""The last steps, once every image is prepared: split, numbers, JSON and yaml, written image by image, report."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
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


class Finishing:
    """Turns prepared images into a dataset.

    Args:
        journal: of all images.
        keys: of the images, in their order.
        table: of the classes.
        options: see there.
        summary: gets to know every image.
    """

    def __init__(
        self, journal: Journal, keys: Sequence[str], table: ClassTable, options: PrepareOptions, summary: Summary
    ) -> None:
        self._journal, self._table, self._options, self._summary = journal, table, options, summary
        self._keys = list(keys)
        self._is_val: np.ndarray = np.zeros(0, bool)

    def finish(self, policy: str, started: float) -> dict[str, Any]:
        """Split, write all files of the dataset but the images, and return the report.

        Args:
            policy: how the stuff was labelled, for the report.
            started: ``time.monotonic()`` at the start.

        Raises:
            DatasetError: no image is left.
        """
        split = self._split()
        self._is_val = split.is_val
        for image_id, result in self._numbered():
            self._summary.add(result, image_id, SPLITS[int(self._is_val[image_id - 1])])
        categories = self._categories(self._summary.used())
        self._warn(split, [category.name for category in categories if category])
        written = sorted((category for category in categories if category), key=lambda category: category.id)
        folder, splits = self._journal.data, SPLITS if self._is_val.any() else SPLITS[:1]
        ids = [category.id if category else 0 for category in categories]
        for name in splits:
            write_split(folder, name, lambda name=name: self._of_split(name), ids, written)  # type: ignore[misc]
        write_categories(folder, written)
        write_register(folder, self._options.dataset_name, splits)
        self._sweep(folder)
        report = self._summary.report(self._chosen(policy), categories, self._numbered(), time.monotonic() - started)
        write_text(folder / MARKER, json.dumps(report, indent=1, ensure_ascii=False))
        _write_page(folder, report)
        return report

    def _split(self) -> Split:
        """Also leaves the keys of usable images only."""
        usable, classes, looks = [], [], []
        reasons: Counter[str] = Counter()
        example = ""
        for key, result in zip(self._keys, self._journal.results(self._keys)):
            if result.skipped:
                self._summary.add_skipped(result)
                reasons[result.skipped] += 1
                example = example or result.why
                continue
            usable.append(key)
            classes.append(tuple({segment.class_number for segment in result.segments}))
            looks.append(result.look)
        if reasons:
            shown = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            left_out = f"{counted(sum(reasons.values()), 'image was', 'images were')} left out: {shown}."
            self._summary.warnings.append(left_out)
            if not usable:
                raise DatasetError(f"no image is left. {left_out} The first one: {example}")
        self._keys = usable
        return split_images(classes, looks, self._options.val, self._options.seed, len(self._table.classes))

    def _numbered(self) -> Iterator[tuple[int, ImageResult]]:
        """All images with their ids."""
        return enumerate(self._journal.results(self._keys), 1)

    def _of_split(self, split: str) -> Iterator[tuple[int, ImageResult]]:
        indices = [index for index, is_val in enumerate(self._is_val) if SPLITS[int(is_val)] == split]
        results = self._journal.results([self._keys[index] for index in indices])
        return zip((index + 1 for index in indices), results)

    def _categories(self, used: Sequence[bool]) -> list[Category | None]:
        """What each class of the table becomes; of ``auto`` those without a segment become nothing."""
        if self._table.is_fixed:
            return list(self._table.classes)
        numbers = iter(range(1, len(used) + 1))
        return [
            replace(category, id=next(numbers)) if is_used else None
            for category, is_used in zip(self._table.classes, used)
        ]

    def _warn(self, split: Split, written: Sequence[str]) -> None:
        """Adds what there is to say of the split and of the classes' names."""
        warnings, names = self._summary.warnings, [category.name for category in self._table.classes]
        if split.torn:
            torn = ", ".join(names[number] for number in split.torn)
            warnings.append(f"on one side of the split only, as classes contradict one another: {torn}.")
        single = [name for name, count in zip(names, self._summary.image_counts()) if count == 1]
        if single and split.is_val.any():
            shown = ", ".join(single[:_SHOWN]) + (" ..." if len(single) > _SHOWN else "")
            classes = counted(len(single), "class is", "classes are")
            warnings.append(f"{classes} in one image only, so on one side of the split: {shown}.")
        if self._options.val and not split.is_val.any():
            warnings.append("there is no validation, as all images look the same or there is only one.")
        if split.is_val.any() and (why := _why_another_share(split, self._options.val)):
            warnings.append(why)
        if split.joined:
            alike = counted(split.joined, "image looks", "images look")
            warnings.append(f"{alike} like another one; such images are on one side of the split.")
        if holed := self._summary.note_count("polygon-holes"):
            done = "cut out (--holes fill fills them)" if self._options.holes == "cut" else "filled"
            warnings.append(f"{holed} labels have polygons inside polygons, which are holes; they were {done}.")
        published = [[one.name for one in listed] for listed in (coco_categories(), construction_categories())]
        for first, second in near_pairs(written, published) if not self._table.is_fixed else ():
            warnings.append(f"the classes {first!r} and {second!r} are alike; --classes can make them one.")

    def _sweep(self, folder: Path) -> None:
        """Removes what an interrupted run of other images left."""
        wanted = set[str]()
        for _, result in self._numbered():
            wanted |= {f"images/{result.file_name}", f"panoptic/{result.png}"}
        for part in ("images", "panoptic"):
            for parent, folders, files in os.walk(folder / part, topdown=False):
                for path in (Path(parent, name) for name in files):
                    if path.relative_to(folder).as_posix() not in wanted:
                        path.unlink()
                for path in (Path(parent, name) for name in folders):
                    if not any(path.iterdir()):
                        path.rmdir()

    def _chosen(self, policy: str) -> dict[str, Any]:
        """The options as the report has them; nothing that leaves the dataset as it is."""
        options = self._options
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


def _write_page(folder: Path, report: dict[str, Any]) -> None:
    from .report import write_report  # draws, which only this step needs

    write_report(folder, report)


Entries = Iterable[dict[str, Any]]
Results = Callable[[], Iterable[tuple[int, ImageResult]]]
"""Goes through the images of a split: image id and image."""


def write_split(folder: Path, split: str, results: Results, ids: Sequence[int], categories: Sequence[Category]) -> None:
    """Write ``panoptic_<split>.json`` and, where there are classes of things, ``instances_<split>.json``.

    Args:
        folder: of the dataset.
        split: ``train`` or ``val``.
        results: gives the images of the split anew each time.
        ids: for each index in the class table the category's id, or 0 where it has no segment.
        categories: in the order of their ids.
    """

    def images() -> Entries:
        for image_id, result in results():
            yield {"id": image_id, "file_name": result.file_name, "width": result.width, "height": result.height}

    entries = [{**one.to_json(), "supercategory": one.name} for one in categories]
    annotations = (_annotation(image_id, result, ids) for image_id, result in results())
    _write(folder / f"panoptic_{split}.json", images(), annotations, entries)
    things = [entry for entry in entries if entry["isthing"]]
    if things:
        _write(folder / f"instances_{split}.json", images(), _instances(results(), ids), things)


def _measured(segment: Segment, ids: Sequence[int]) -> dict[str, Any]:
    """What both files say of a segment, but its id."""
    return {
        "category_id": ids[segment.class_number],
        "iscrowd": int(segment.is_crowd),
        "area": segment.area,
        "bbox": list(segment.bbox),
    }


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


def _write(path: Path, images: Entries, annotations: Entries, categories: Entries) -> None:
    """A COCO JSON, an entry a line."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "made by detr-d2 prepare"},\n"licenses": [],\n"images": [')
        _write_entries(file, images)
        file.write('],\n"annotations": [')
        _write_entries(file, annotations)
        file.write('],\n"categories": [')
        _write_entries(file, categories)
        file.write("]}\n")


def _write_entries(file: IO[str], entries: Entries) -> None:
    for number, entry in enumerate(entries):
        file.write((",\n" if number else "\n") + json.dumps(entry, ensure_ascii=False))


def write_categories(folder: Path, categories: Iterable[Category]) -> None:
    """Write ``categories.yaml``, which ``--categories`` reads; a category a line."""
    style: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "allow_unicode": True, "width": 10_000}
    lines = [f"- {yaml.safe_dump(category.to_json(), **style)}" for category in categories]
    (folder / "categories.yaml").write_text("".join(lines), encoding="utf-8")
