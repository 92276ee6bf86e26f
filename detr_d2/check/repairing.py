"""One JSON of a fixed copy: what can be fixed in it by itself, then image by image with what is labelled on it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detr_d2.data.categories import known_things
from detr_d2.labels.rules.document import Document, walk_document
from detr_d2.labels.rules.image import ImageTask, walk_image
from detr_d2.labels.rules.image_files import Plan, write_image_file
from detr_d2.labels.rules.json_files import JSON_OTHER, PARTS, read_json_file
from detr_d2.labels.rules.labels import crowd_only_rules
from detr_d2.labels.rules.rule import Change, fix, fix_all
from detr_d2.labels.values import shallow, strict

from .dataset import is_of_coco
from .layout import Target

Entry = dict[str, Any]
#: How each image was put into the copy, by its original's path: the plan and the name.
Written = dict[str, tuple[Plan, str]]


@dataclass(frozen=True)
class CopyTask:
    """An image to be fixed and written.

    Args:
        task: the image and what is labelled on it.
        target: file of the copy; None where the original's isn't known.
        png_target: likewise.
        annotation: of a panoptic JSON, or None.
        earlier: plan by which another JSON of the dataset has put this image there, and its name then.
    """

    task: ImageTask
    target: Path | None
    png_target: Path | None
    annotation: Entry | None
    earlier: tuple[Plan, str] | None


@dataclass
class CopiedImage:
    """What became of it.

    Args:
        entry: of ``images`` in the copy, or None where the image is left out.
        annotation: of a panoptic JSON, or None.
        labels: annotations of COCO instances.
        plan: of the image's file, or None where there is none.
        changes: what was changed.
    """

    entry: Entry | None = None
    annotation: Entry | None = None
    labels: list[Entry] = field(default_factory=list)
    plan: Plan | None = None
    changes: list[Change] = field(default_factory=list)


def copy_image(copy: CopyTask) -> CopiedImage:
    """Fix one image, its PNG and its labels, and write the files.

    Raises:
        OSError: they can't be written.
    """
    task, copied = copy.task, CopiedImage()
    assert task.entry is not None
    seen = fix_all(walk_image(task), copied.changes)
    if seen is None:
        also = f"; its {task.count} labels, too" if task.count else ""
        copied.changes[-1] = replace(copied.changes[-1], done=copied.changes[-1].done + also)
        return copied
    copied.entry = dict(task.entry)
    if seen.image is not None:
        copied.plan = seen.image.plan
        if copy.earlier is not None and copy.earlier[0] == copied.plan and not copied.plan.is_copy:
            copied.changes = [change for change in copied.changes if change.file != seen.image.path]  # said before
        if copy.target is not None:
            name = _written_name(copy, copied.plan, lambda target: write_image_file(seen.image, target))
            copied.entry["file_name"] = name
    if seen.png is not None and copy.png_target is not None:
        seen.png.write(copy.png_target)
    if copy.annotation is not None:
        copied.annotation = {**copy.annotation, "segments_info": seen.labels, "image_id": task.listed.image_id}
    elif not task.is_panoptic:
        copied.labels = seen.labels
    return copied


def _written_name(copy: CopyTask, plan: Plan, write: Any) -> str:
    """Write the image, if that hasn't been done for another JSON, and return its name in the copy."""
    assert copy.task.entry is not None and copy.target is not None
    name, target = copy.task.entry["file_name"], copy.target
    if copy.earlier is not None:
        if copy.earlier[0] == plan:
            return copy.earlier[1]
        width, height = copy.task.entry["width"], copy.task.entry["height"]
        target = target.with_name(f"{target.stem}-{width}x{height}{target.suffix}")
    written = write(target)
    folder = name.rpartition("/")[0]
    return f"{folder}/{written.name}" if folder else str(written.name)


@dataclass
class Draft:
    """One JSON of the copy while it is made.

    Args:
        target: where it goes.
        rest: the file's keys in their order; images, annotations and categories have no value yet.
        document: what is in it; fixed, as far as that goes without pixels.
    """

    target: Target
    rest: Entry
    document: Document

    def tasks(self, folder: Path, written: Written) -> list[CopyTask]:
        """What is left to do, image by image.

        Args:
            folder: of the copy.
            written: images that are there already.
        """
        document, tasks = self.document, []
        for image_id, entry in document.images.entries.items():
            labels, listed = document.labels.get(image_id), document.listed(image_id)
            annotation = labels.annotation if labels is not None else None
            if document.is_panoptic and labels is not None and annotation is None:
                continue  # its PNG isn't there
            png_name = annotation["file_name"] if annotation is not None else ""
            png = document.png_names.path(png_name)
            task = ImageTask(
                listed=listed,
                file=document.file,
                labels=labels.labels if labels is not None else [],
                is_panoptic=document.is_panoptic,
                png=png,
                entry=entry,
                count=labels.count if labels is not None else 0,
                may_lose_labels=self.target.is_secondary,
            )
            target = _below(folder, self.target.images, entry["file_name"]) if listed.path else None
            png_target = _below(folder, self.target.panoptic_root, png_name) if png else None
            tasks.append(CopyTask(task, target, png_target, annotation, written.get(listed.path or "")))
        return tasks

    def content(self, copied: Iterable[CopiedImage], changes_: list[Change]) -> Entry:
        """The JSON of the copy from what became of its images."""
        kept, document = [each for each in copied if each.entry is not None], self.document
        if document.is_panoptic:
            annotations = [each.annotation for each in kept if each.annotation is not None]
            labels = [segment for each in annotations for segment in each["segments_info"]]
        else:
            annotations = labels = [label for each in kept for label in each.labels]
        fix(crowd_only_rules(labels, document.categories.names, document.file), changes_)
        parts = {
            "images": [each.entry for each in kept],
            "annotations": annotations,
            "categories": document.categories.entries,
        }
        content = {**self.rest, **parts}  # whose keys keep their order
        return {key: strict(value) for key, value in content.items()}


def draft(target: Target, changes_: list[Change]) -> Draft | None:
    """Fix what shows in a JSON by itself; None where no copy can be made of it, which is the last change then."""
    file, source = target.source.json_file, target.source
    read = read_json_file(file)
    is_right = fix(read.rules(), changes_)
    if is_right and not is_of_coco(source, read.content or {}):
        changes_.append(Change("removed", JSON_OTHER.code, file, None, None, f"has none of {', '.join(PARTS)}"))
        is_right = False
    if is_right and read.content is not None:
        fix(read.constant_rules(), changes_)
        walk = walk_document(read.content, file, source.images, source.panoptic_root, known_things)
        document = fix_all(walk, changes_)
        if document is not None:
            rest = {key: None if key in PARTS else shallow(value) for key, value in read.content.items()}
            return Draft(target, rest, document)
    changes_[-1] = replace(changes_[-1], file=file, done=f"the whole file is left out: {changes_[-1].done}")
    return None


def _below(folder: Path, place: str | None, name: str) -> Path | None:
    return folder.joinpath(place, *name.split("/")) if place else None


def write_json(path: Path, content: Entry) -> None:
    """A JSON file as COCO's programs read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, allow_nan=False)
