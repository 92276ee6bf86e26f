"""One JSON of a fixed copy: what can be fixed in it by itself, then image by image with what is labelled on it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from detr_d2.data.categories import known_things
from detr_d2.data.registration import entry_of, write_entries
from detr_d2.labels.rules.annotations import crowd_only_rules
from detr_d2.labels.rules.document import Document, walk_document
from detr_d2.labels.rules.image import FilePlan, ImageFile, walk_image, write_image_file
from detr_d2.labels.rules.images import ImageTask
from detr_d2.labels.rules.json_files import PARTS, read_json_file
from detr_d2.labels.rules.rule import Change, fix, fix_all
from detr_d2.labels.values import shallow, strict
from detr_d2.parallel import in_processes

from .dataset import Progress, is_of_coco
from .report import ChangeLog
from .sources import Source, Sources

Entry = dict[str, Any]
#: How an image was put into the copy: by this plan, under this name.
Written = tuple[FilePlan, str]
#: The ending of a zip that files lie in: their copies lie in a folder.
_ZIP = re.compile(rf"\.zip({re.escape(os.sep)})", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """One JSON of the copy and its folders, their paths relative to the copy's; None where the original's isn't known.

    ``is_secondary``: instances beside a panoptic JSON of the same images.
    """

    source: Source
    json_file: str
    images: str | None
    panoptic_root: str | None
    is_secondary: bool = False

    def in_folder(self, folder: Path) -> Source:
        """The copy's JSON with its folders, for a check."""
        images, pngs = (str(folder / place) if place else None for place in (self.images, self.panoptic_root))
        return Source(str(folder / self.json_file), images, pngs)


def plan(dataset: Sources, root: str | None) -> list[Target]:
    """A target for each JSON of a dataset: where it lay in ``root``, or under the usual name; never one for two."""
    given: dict[str, str] = {}

    def place_of(path: str | None, usual: str) -> str | None:
        if path is None:
            return None
        key = os.path.abspath(path)
        if key not in given:
            kept = os.path.relpath(key, os.path.abspath(root)) if root else os.pardir
            is_outside = kept in (os.curdir, os.pardir) or kept.startswith(os.pardir + os.sep)
            wanted = usual if is_outside else _ZIP.sub(r"\1", kept)
            stem, ending = os.path.splitext(wanted)
            names = (wanted if number == 1 else f"{stem}-{number}{ending}" for number in count(1))
            given[key] = next(name for name in names if name not in given.values())
        return given[key]

    second = {entry.instances_json for entry in map(entry_of, dataset.names) if entry and entry.panoptic_json}
    targets = []
    for source in dataset.sources:
        json_file = place_of(source.json_file, os.path.basename(source.json_file)) or ""
        places = place_of(source.images, "images"), place_of(source.panoptic_root, "panoptic")
        targets.append(Target(source, json_file, *places, source.json_file in second))
    return targets


def write_register(folder: Path, dataset: Sources, targets: Sequence[Target]) -> None:
    """``register.yaml`` of the copy, for the datasets of which a JSON is left.

    A dataset whose categories are known beforehand, such as a built-in one, gets ``_fixed`` behind its name, as names
    can't be taken twice.
    """
    placed = {target.source.json_file: target for target in targets}
    described: list[dict[str, Any]] = []
    for entry in filter(None, map(entry_of, dataset.names)):
        first, instances = placed.get(entry.panoptic_json or entry.instances_json), placed.get(entry.instances_json)
        if first is not None:
            mapping = {
                "name": f"{entry.name}_fixed" if entry.categories else entry.name,
                "images": first.images,
                "panoptic_json": first.json_file if entry.panoptic_json else None,
                "panoptic_root": first.panoptic_root if entry.panoptic_json else None,
                "instances_json": instances.json_file if instances else None,
            }
            described.append({key: value for key, value in mapping.items() if value})
    write_entries(folder, described)


@dataclass(frozen=True)
class CopyTask:
    """An image to be fixed and written.

    Args:
        task: the image and what is labelled on it.
        images, panoptic_root: folders of the images and PNGs in the copy; None where the original isn't known.
        annotation: of a panoptic JSON, or None.
        earlier: how another JSON of the dataset has put this image there.
    """

    task: ImageTask
    images: Path | None
    panoptic_root: Path | None
    annotation: Entry | None
    earlier: Written | None


@dataclass
class CopiedImage:
    """What became of it: its entry (None: it is left out), its annotations, the plan of its file, and what changed."""

    entry: Entry | None = None
    annotations: list[Entry] = field(default_factory=list)
    plan: FilePlan | None = None
    changes: list[Change] = field(default_factory=list)


def copy_image(copy: CopyTask) -> CopiedImage:
    """Fix one image, its PNG and its labels, and write the files."""
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
        if copy.images is not None:
            copied.entry["file_name"] = _written_name(copy, copied.entry, seen.image, copy.images)
    if copy.annotation is not None:
        if seen.png is not None and copy.panoptic_root is not None:
            seen.png.write(copy.panoptic_root / copy.annotation["file_name"])
        copied.annotations = [{**copy.annotation, "segments_info": seen.labels, "image_id": task.listed.image_id}]
    elif not task.is_panoptic:
        copied.annotations = seen.labels
    return copied


def _written_name(copy: CopyTask, entry: Entry, image: ImageFile, images: Path) -> str:
    """Write the image, if that hasn't been done for another JSON, and return its name in the copy."""
    target = images / entry["file_name"]
    if copy.earlier is not None:
        if copy.earlier[0] == image.plan:
            return copy.earlier[1]
        target = target.with_name(f"{target.stem}-{entry['width']}x{entry['height']}{target.suffix}")
    return write_image_file(image, target).relative_to(images).as_posix()


@dataclass
class Copier:
    """Copies one JSON after another into a folder, by several processes; ``log`` gets what was changed."""

    folder: Path
    log: ChangeLog
    workers: int
    progress: Progress
    _written: dict[str, Written] = field(default_factory=dict)

    def copy(self, target: Target) -> bool:
        """Copy one JSON with its images; False where nothing of it is left."""
        changes: list[Change] = []
        drafted = _draft(target.source, changes)
        if drafted is None:
            file, done = target.source.json_file, f"the whole file is left out: {changes[-1].done}"
            changes[-1] = replace(changes[-1], file=file, done=done)
        self.log.add(changes)
        return drafted is not None and self._copy_images(target, *drafted)

    def _copy_images(self, target: Target, document: Document, rest: Entry) -> bool:
        for place in filter(None, (target.images, target.panoptic_root)):
            (self.folder / place).mkdir(parents=True, exist_ok=True)
        tasks, done = list(self._tasks(target, document)), list[CopiedImage]()
        # No process writes once this one has left.
        with closing(in_processes(copy_image, tasks, self.workers)) as results:
            for each in self.progress(results, len(tasks)):
                self.log.add(each.changes)
                each.changes = []
                done.append(each)
        for copy, each in zip(tasks, done):
            if each.plan is not None and each.entry is not None and copy.images is not None:
                self._written.setdefault(copy.task.listed.path or "", (each.plan, each.entry["file_name"]))
        content = self._content(document, rest, [each for each in done if each.entry is not None])
        is_labelled = any(copy.task.count for copy in tasks)
        if not content["images"] or (is_labelled and not content["annotations"]):
            text = "the whole file is left out: nothing that is right is left of it"
            self.log.add([Change("removed", "image-unlabelled", document.file, None, None, text)])
            return False
        write_json(self.folder / target.json_file, content)
        return True

    def _tasks(self, target: Target, document: Document) -> Iterator[CopyTask]:
        """What is left to do, image by image."""
        images, pngs = (self.folder / place if place else None for place in (target.images, target.panoptic_root))
        for image_id in document.images.entries:
            labels = document.labels.get(image_id)
            annotation = labels.annotation if labels is not None else None
            if labels is None or annotation is not None or not document.is_panoptic:  # else its PNG isn't there
                task = replace(document.task(image_id), may_lose_labels=target.is_secondary)
                path = task.listed.path
                yield CopyTask(task, images if path else None, pngs, annotation, self._written.get(path or ""))

    def _content(self, document: Document, rest: Entry, kept: Sequence[CopiedImage]) -> Entry:
        """The JSON of the copy from what became of its images; its keys keep their order."""
        annotations = [annotation for each in kept for annotation in each.annotations]
        labels = annotations
        if document.is_panoptic:
            labels = [segment for annotation in annotations for segment in annotation["segments_info"]]
        changes: list[Change] = []
        fix(crowd_only_rules(labels, document.categories.names, document.file), changes)
        self.log.add(changes)
        images = [each.entry for each in kept]
        parts = {"images": images, "annotations": annotations, "categories": document.categories.entries}
        return {key: strict(value) for key, value in {**rest, **parts}.items()}


def _draft(source: Source, changes_: list[Change]) -> tuple[Document, Entry] | None:
    """Fix what shows in a JSON by itself.

    Returns:
        What is in it, and the file's keys in their order, those of the document without a value; None where no copy can
        be made of it, which is the last change then.
    """
    read = read_json_file(source.json_file)
    if not fix(read.rules(), changes_) or read.content is None:
        return None
    if not is_of_coco(source, read.content):
        text = f"has none of {', '.join(PARTS)}"
        changes_.append(Change("removed", "json-other", source.json_file, None, None, text))
        return None
    fix(read.constant_rules(), changes_)
    walk = walk_document(read.content, source.json_file, source.images, source.panoptic_root, known_things)
    document = fix_all(walk, changes_)
    rest = {key: None if key in PARTS else shallow(value) for key, value in read.content.items()}
    return None if document is None else (document, rest)


def write_json(path: Path, content: Entry) -> None:
    """A JSON file as COCO's programs read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, allow_nan=False)
