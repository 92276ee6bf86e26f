"""The last steps, once every picture is prepared: split, numbers, JSON, report."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.data.registration_config import write_register
from detr_d2.errors import DatasetError
from detr_d2.files import write_text
from detr_d2.wording import counted

from .class_names import near_pairs
from .classes import ClassTable
from .journal import Journal
from .options import PrepareOptions
from .results import PictureResult
from .split import Split, split_pictures
from .summary import Summary
from .writing import SPLITS, write_categories, write_split

MARKER = "report.json"
"""A folder with this file was made by this module and may be made again."""

_SHOWN = 10
#: The share of validation may differ by this much from the one asked for before that is said.
_SHARE_OFF = 0.02

FILES = {"images", "panoptic", "categories.yaml", "register.yaml", "report.html"} | {
    f"{kind}_{split}.json" for kind in ("panoptic", "instances") for split in SPLITS
}


class Finishing:
    """Turns prepared pictures into a dataset.

    Args:
        journal: of all pictures.
        keys: of the pictures, in their order.
        table: of the classes.
        options: see there.
    """

    def __init__(self, journal: Journal, keys: Sequence[str], table: ClassTable, options: PrepareOptions) -> None:
        self._journal = journal
        self._keys = list(keys)
        self._table = table
        self._options = options
        self._is_val: np.ndarray = np.zeros(0, bool)

    def finish(self, summary: Summary, policy: str, started: float) -> dict[str, Any]:
        """Split, write all files of the dataset but the pictures, and return the report.

        Args:
            summary: gets to know every picture.
            policy: how the stuff was labelled, for the report.
            started: ``time.monotonic()`` at the start.

        Raises:
            DatasetError: no picture is left.
        """
        split = self._split(summary)
        self._is_val = split.is_val
        for image_id, result in self._numbered():
            summary.add(result, image_id, SPLITS[int(self._is_val[image_id - 1])])
        categories = self._categories(summary.used())
        self._warn(summary, split, categories)
        written = [category for category in categories if category]
        folder, splits = self._journal.data, SPLITS if self._is_val.any() else SPLITS[:1]
        ids = [category.id if category else 0 for category in categories]
        for name in splits:
            write_split(folder, name, lambda name=name: self._of_split(name), ids, _by_id(written))  # type: ignore[misc]
        write_categories(folder, _by_id(written))
        write_register(folder, self._options.dataset_name, splits)
        self._sweep(folder)
        report = summary.report(self._asked(policy), categories, self._numbered(), time.monotonic() - started)
        write_text(folder / MARKER, json.dumps(report, indent=1, ensure_ascii=False))
        _write_page(folder, report)
        return report

    def _split(self, summary: Summary) -> Split:
        """Also leaves the keys of usable pictures only."""
        usable, classes, looks = [], [], []
        reasons: Counter[str] = Counter()
        for key, result in zip(self._keys, self._journal.results(self._keys)):
            if result.skipped:
                summary.add_skipped(result)
                reasons[result.skipped] += 1
                continue
            usable.append(key)
            classes.append(tuple({segment.class_number for segment in result.segments}))
            looks.append(result.look)
        if reasons:
            told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            summary.warnings.append(
                f"{counted(sum(reasons.values()), 'picture was', 'pictures were')} left out: {told}."
            )
        if not usable:
            example = next(result.why for result in self._journal.results(self._keys))
            raise DatasetError(f"no picture is left. {summary.warnings[-1]} The first one: {example}")
        self._keys = usable
        return split_pictures(classes, looks, self._options.val, self._options.seed, len(self._table.classes))

    def _numbered(self) -> Iterator[tuple[int, PictureResult]]:
        """All pictures with their image ids."""
        return enumerate(self._journal.results(self._keys), 1)

    def _of_split(self, split: str) -> Iterator[tuple[int, PictureResult]]:
        places = [place for place, is_val in enumerate(self._is_val) if SPLITS[int(is_val)] == split]
        results = self._journal.results([self._keys[place] for place in places])
        return zip((place + 1 for place in places), results)

    def _categories(self, used: Sequence[bool]) -> list[Category | None]:
        """What each class of the table becomes; of ``auto`` those without a segment become nothing."""
        if self._table.is_fixed:
            return list(self._table.classes)
        numbers = iter(range(1, len(used) + 1))
        return [
            replace(category, id=next(numbers)) if is_used else None
            for category, is_used in zip(self._table.classes, used)
        ]

    def _warn(self, summary: Summary, split: Split, categories: Sequence[Category | None]) -> None:
        names = [category.name for category in self._table.classes]
        if split.torn:
            torn = ", ".join(names[number] for number in split.torn)
            summary.warnings.append(f"on one side of the split only, as classes contradict one another: {torn}.")
        self._warn_of_single_pictures(summary, names)
        if self._options.val and not split.is_val.any():
            summary.warnings.append("there is no validation, as all pictures look the same or there is only one.")
        if self._is_val.any() and (why := _why_another_share(split, self._options.val)):
            summary.warnings.append(why)
        if split.joined:
            alike = counted(split.joined, "picture looks", "pictures look")
            summary.warnings.append(f"{alike} like another one; such pictures are on one side of the split.")
        if holed := summary.note_count("polygon-holes"):
            done = "cut out (--holes fill fills them)" if self._options.holes == "cut" else "filled"
            summary.warnings.append(f"{holed} labels have polygons inside polygons, which are holes; they were {done}.")
        if not self._table.is_fixed:
            for first, second in near_pairs([category.name for category in categories if category]):
                summary.warnings.append(f"the classes {first!r} and {second!r} are alike; --classes can make them one.")

    def _warn_of_single_pictures(self, summary: Summary, names: Sequence[str]) -> None:
        single = [name for name, count in zip(names, summary.picture_counts()) if count == 1]
        if single and self._is_val.any():
            shown = ", ".join(single[:_SHOWN]) + (" ..." if len(single) > _SHOWN else "")
            classes = counted(len(single), "class is", "classes are")
            summary.warnings.append(f"{classes} in one picture only, so on one side of the split: {shown}.")

    def _sweep(self, folder: Path) -> None:
        """Removes what an interrupted run of other pictures left."""
        wanted = {"images": set[str](), "panoptic": set[str]()}
        for _, result in self._numbered():
            wanted["images"].add(result.file_name)
            wanted["panoptic"].add(result.png)
        for part, names in wanted.items():
            for parent, folders, files in os.walk(folder / part, topdown=False):
                for name in files:
                    path = Path(parent) / name
                    if path.relative_to(folder / part).as_posix() not in names:
                        path.unlink()
                for name in folders:
                    if not any((Path(parent) / name).iterdir()):
                        (Path(parent) / name).rmdir()

    def _asked(self, policy: str) -> dict[str, Any]:
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
            "pictures": options.pictures,
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


def _by_id(categories: Sequence[Category]) -> list[Category]:
    return sorted(categories, key=lambda category: category.id)


def _write_page(folder: Path, report: dict[str, Any]) -> None:
    from .report import write_report  # draws, which only this step needs

    write_report(folder, report)
