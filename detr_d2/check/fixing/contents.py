"""The content of one JSON, mended as far as that goes without its pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..dataset import PARTS, is_panoptic_file
from ..faults import shown
from ..json_file import ReadJson
from ..json_text import without_halves
from ..values import objects_of
from .categories import MendedCategories, mend_categories
from .changes import Change, mended, removed
from .images import ImageId, MendedImages
from .jobs import Done, Entry, Job
from .labels import LabelMender, PictureLabels, mend_instances, mend_panoptic, stems_of
from .layout import Target
from .names import FileFinder
from .objects import clear_cvat_crowds
from .pictures import Plan
from .values import shallow, strict

#: How each picture was put into the copy, by its original's path: the plan and the name.
Written = dict[str, tuple[Plan, str]]


class Unusable(Exception):
    """A JSON of which no copy can be made; ``args`` are the code of the fault and a sentence."""


@dataclass
class Draft:
    """One JSON of the copy while it is made.

    Args:
        target: where it goes.
        rest: what stands beside images, annotations and categories.
        is_panoptic: COCO panoptic, else COCO instances.
        categories: mended.
        images: mended, by id.
        labels: by id of the picture.
        pictures, pngs: find the originals.
        changes: so far.
    """

    target: Target
    rest: dict[str, Any]
    is_panoptic: bool
    categories: MendedCategories
    images: dict[ImageId, Entry]
    labels: dict[ImageId, PictureLabels]
    pictures: FileFinder
    pngs: FileFinder
    changes: list[Change] = field(default_factory=list)

    def jobs(self, folder: Path, written: Written) -> list[Job]:
        """What is left to do, picture by picture.

        Args:
            folder: of the copy.
            written: pictures that are there already.
        """
        jobs = []
        for image_id, entry in self.images.items():
            labels = self.labels.get(image_id)
            if self.is_panoptic and labels is not None and labels.annotation is None:
                continue  # its PNG isn't there
            picture = self.pictures.path(entry["file_name"])
            png_name = labels.annotation["file_name"] if labels and labels.annotation else None
            png = self.pngs.path(png_name) if png_name else None
            jobs.append(
                Job(
                    entry=entry,
                    labels=labels,
                    is_panoptic=self.is_panoptic,
                    file=self.target.source.json_file,
                    picture=picture,
                    picture_target=_below(folder, self.target.images, entry["file_name"]) if picture else None,
                    earlier=written.get(picture) if picture else None,
                    png=png,
                    png_target=_below(folder, self.target.panoptic_root, png_name) if png_name and png else None,
                    keeps_unlabelled=self.target.is_secondary,
                )
            )
        return jobs

    def content(self, done: list[Done]) -> dict[str, Any]:
        """The JSON of the copy from what became of its pictures."""
        kept = [each for each in done if each.entry is not None]
        if self.is_panoptic:
            annotations = [each.annotation for each in kept if each.annotation is not None]
            labels = [segment for each in annotations for segment in each["segments_info"]]
        else:
            annotations = labels = [label for each in kept for label in each.labels]
        names = {entry["id"]: entry["name"] for entry in self.categories.entries}
        self.changes += clear_cvat_crowds(labels, names, self.target.source.json_file)
        parts = {
            "images": [each.entry for each in kept],
            "annotations": annotations,
            "categories": self.categories.entries,
        }
        return {key: strict(value) for key, value in {**self.rest, **parts}.items()}


def draft(read: ReadJson, target: Target) -> Draft:
    """Mend what shows in a JSON by itself.

    Raises:
        Unusable: no copy can be made of it.
    """
    file = target.source.json_file
    content, changes = _of_whole_text(read, file)
    changes += _not_objects(content, file)
    if read.constants:
        text = f"NaN or Infinity stood there {read.constants} times: null now, where nothing better is known"
        changes.append(Change("mended", "json-number", file, None, None, text))
    images, annotations, categories = (objects_of(content, key, file, []) for key in PARTS)
    is_panoptic = is_panoptic_file(annotations, target.source)
    mended_categories = mend_categories(categories, file, is_panoptic, changes)
    pictures, pngs = FileFinder(target.source.images), FileFinder(target.source.panoptic_root if is_panoptic else None)
    for finder, folder, what in (
        (pictures, target.source.images, "pictures"),
        (pngs, target.source.panoptic_root if is_panoptic else None, "PNGs"),
    ):
        if folder is not None and finder.folder is None:
            raise Unusable("folder-missing", f"the folder of its {what}, {folder}, isn't there")
    mended_images = MendedImages(images, file, pictures, stems_of(annotations) if is_panoptic else {})
    mender = LabelMender(file, mended_categories)
    if is_panoptic:
        labels = mend_panoptic(annotations, mended_images, mender, pngs)
    else:
        labels = mend_instances(annotations, mended_images, mender)
    changes += mended_images.changes + mender.changes
    rest = {key: shallow(value) for key, value in content.items() if key not in PARTS}
    return Draft(target, rest, is_panoptic, mended_categories, mended_images.entries, labels, pictures, pngs, changes)


def _of_whole_text(read: ReadJson, file: str) -> tuple[dict[str, Any], list[Change]]:
    """The content of a file without halves of characters, each key once, and what was changed for that.

    Raises:
        Unusable: there is none, or a list of labels was lost as its key stands twice.
    """
    if read.content is None:
        raise Unusable(read.faults[0].code, read.faults[0].message)
    lost = [key for key in read.repeated if key in (*PARTS, "segments_info")]
    if lost:
        raise Unusable("json-repeated", f"an object has the key {shown(lost[0])} more than once")
    changes = [
        mended("json-repeated", file, f"{shown(key)} stood more than once in {count} objects; the last value is kept")
        for key, count in read.repeated.items()
    ]
    if not read.halves.texts:
        return read.content, changes
    text = f"halves of characters in {read.halves.texts} texts are U+FFFD now: {', '.join(read.halves.places)}"
    return without_halves(shallow(read.content)), [*changes, mended("json-text", file, text)]


def _not_objects(content: dict[str, Any], file: str) -> Iterator[Change]:
    """What isn't even an object goes.

    Raises:
        Unusable: one of the three lists is missing, is no list, or is empty where it must not be.
    """
    for key in PARTS:
        entries = content.get(key)
        if not isinstance(entries, list):
            found = f"is {shown(entries)}" if key in content else "is missing"
            raise Unusable("json-type" if key in content else "json-key", f"'{key}' {found}")
        if not any(isinstance(entry, dict) for entry in entries) and (entries or key != "annotations"):
            raise Unusable("json-key", f"'{key}' holds nothing")
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                yield removed("json-type", file, f"{key}[{number}] is {shown(entry)}")


def _below(folder: Path, place: str | None, name: str) -> Path | None:
    return folder.joinpath(place, *name.split("/")) if place else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A JSON file as COCO's programs read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, allow_nan=False)
