"""All faults of a dataset, in one pass: its JSON files, their images, several processes at a time, and all together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detr_d2.data.registration import entry_of
from detr_d2.labels.rules.categories import normal_name
from detr_d2.labels.rules.document import walk_document
from detr_d2.labels.rules.images import ImageTask, ListedImage
from detr_d2.labels.rules.json_files import PARTS, objects_of, read_json_file
from detr_d2.labels.rules.rule import Fault, Finding, Listing, Place, faults
from detr_d2.labels.values import is_id, is_text, numbered, shown
from detr_d2.parallel import in_processes

from .sources import Source, Sources

if TYPE_CHECKING:
    from detr_d2.labels.rules.splits import Split

#: Wraps images, to show how far the check is; gets their number as well.
Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass
class _Check:
    """A check that is going on.

    Args:
        quick, workers, progress: see :func:`dataset_faults`.
        merging: what several exports have in common that they shouldn't, or None.
        files: with labels, so far.
        images: that they list.
        labelled: images that have a label.
    """

    quick: bool
    workers: int
    progress: Progress
    merging: Merging | None
    files: int = 0
    images: int = 0
    labelled: int = 0

    def count(self, images: int, labelled: int) -> None:
        """Add what a file has."""
        self.files, self.images, self.labelled = self.files + 1, self.images + images, self.labelled + labelled

    def look(self, function: Callable[[Any], list[Fault]], tasks: list[Any]) -> Iterator[Fault]:
        """What shows in the pixels."""
        if not self.quick:
            for found in self.progress(in_processes(function, tasks, self.workers), len(tasks)):
                yield from found

    def emptiness(self) -> str:
        """Why there was nothing to check."""
        if not self.files:
            return f"has none of {', '.join(PARTS)}, and nothing else was there to check."
        found = f"none of the {self.images} images has a label" if self.images else "no image is listed"
        return f"{found}{f' in {self.files} files' if self.files > 1 else ''}."


def dataset_faults(
    dataset: Sources, quick: bool = False, workers: int = 1, progress: Progress = lambda tasks, count: tasks
) -> Iterator[Fault]:
    """Every fault of a dataset, one after another; nothing is raised for what the files hold.

    Args:
        dataset: see :func:`~detr_d2.check.sources.find_sources`.
        quick: look at the JSON files, and whether the files that they name are there, but at no pixel.
        workers: processes that look at images; 1: none but this one.
        progress: shows how far the images are.
    """
    check = _Check(quick, workers, progress, Merging() if dataset.to_be_merged else None)
    has_errors = False
    for found in _faults_of_files(dataset, check):
        has_errors = has_errors or found.severity == "error"
        yield found
    if dataset.sources and not check.labelled and not has_errors:
        yield Place(dataset.sources[0].json_file).found("json-empty", check.emptiness()).fault()


def _faults_of_files(dataset: Sources, check: _Check) -> Iterator[Fault]:
    """Faults of each file, and of all together."""
    listed: dict[str, list[ListedImage]] = {}
    for source in dataset.sources:
        if not dataset.names:
            yield from faults(_name_rules(source))
        if source.export is not None or source.refused:
            yield from _export_faults(source, check)
            continue
        tasks: list[ImageTask] = []
        yield from _json_faults(source, check, tasks)
        if len(dataset.names) > 1:
            listed[source.json_file] = [task.listed for task in tasks]
        if not check.quick:
            from detr_d2.labels.rules.image import image_faults  # and all that reads images

            yield from check.look(image_faults, tasks)
    if check.merging is not None:
        common = os.path.commonpath([source.json_file for source in dataset.sources])
        yield from faults(check.merging.final_rules(common))
    if listed:
        from detr_d2.labels.rules.splits import find_leaks  # and what compares images, which one dataset doesn't need

        for _, leak in find_leaks(splits_of(dataset, listed), check.quick, check.workers):
            yield leak.fault()


def _name_rules(source: Source) -> Iterator[Finding]:
    """An export that was found by its folder is called by it once exports are merged."""
    from detr_d2.labels.readers.discovery import folder_of_export  # and all readers; a register.yaml needs none

    found = folder_of_export(Path(source.json_file)).name if source.export is None else source.export.name
    if not source.is_meant and not is_text(found):
        message = f"is of the export {shown(found)}, whose name isn't UTF-8; rename its folder or zip."
        yield Place(source.json_file).found("export-broken", message)


def _export_faults(source: Source, check: _Check) -> Iterator[Fault]:
    """Faults of an export that isn't COCO's, or of what isn't read."""
    if source.export is None:
        yield Place(source.json_file).found("export-broken", source.refused).fault()
        return
    from .exports import check_export, content_of, is_labelled, look_at_export_image

    export, findings = check_export(source.export)
    yield from faults(findings)
    check.count(len(export.images) if export else 0, sum(map(is_labelled, export.images)) if export else 0)
    if export is not None:
        if check.merging is not None:
            yield from faults(check.merging.rules(content_of(export), source.json_file))
        yield from check.look(partial(look_at_export_image, source.json_file), list(export.images))


def splits_of(dataset: Sources, listed: dict[str, list[ListedImage]]) -> list[Split]:
    """The registered datasets that were looked at, with the images of each."""
    entries = [entry for entry in map(entry_of, dataset.names) if entry is not None]
    files = [(entry.name, entry.panoptic_json or entry.instances_json) for entry in entries]
    from detr_d2.labels.rules.splits import Split

    return [Split(name, file, listed[file]) for name, file in files if file in listed]


def is_of_coco(source: Source, content: dict[str, Any]) -> bool:
    """Whether a JSON is part of the dataset: it was named, or has something of COCO's."""
    return source.is_meant or any(key in content for key in PARTS)


def _json_faults(source: Source, check: _Check, tasks_: list[ImageTask]) -> Iterator[Fault]:
    """Faults that show in a JSON; what is left to do with pixels is put into ``tasks_``."""
    read = read_json_file(source.json_file)
    yield from faults(read.rules())
    if read.content is None:
        return
    if not is_of_coco(source, read.content):
        message = f"has none of {', '.join(PARTS)}; it wasn't checked."
        yield read.place.found("json-other", message).fault()
        return
    walk = Listing(walk_document(read.content, source.json_file, source.images, source.panoptic_root))
    has_named_constants = False  # NaN or Infinity, in a fault about something that is one
    for fault in walk:
        has_named_constants = has_named_constants or any(word in fault.message for word in ("nan", "inf"))
        yield fault
    if not has_named_constants:
        yield from faults(read.constant_rules())
    document = walk.result
    assert document is not None
    tasks_ += [document.task(image_id) for image_id in document.images.entries]
    check.count(len(tasks_), len(document.labels))
    if check.merging is not None:
        yield from faults(check.merging.rules(read.content, source.json_file))


class Merging:
    """What several exports have in common that they shouldn't; each is added in turn."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._classes: dict[str, str] = {}
        self._ids: set[Any] = set()
        self._shared = 0
        self._example: Any = None

    def rules(self, content: dict[str, Any], file: str) -> Iterator[Finding]:
        """Findings about one export against the earlier ones, which it is added to."""
        entries = [entry for _, entry in numbered(objects_of(content, "images")) if is_id(entry.get("id"))]
        for entry in entries:
            name = entry.get("file_name")
            if isinstance(name, str) and name:
                first = self._names.setdefault(os.path.basename(name).casefold(), file)
                if first != file:
                    message = f"{shown(name)} is the name of an image of {first} too."
                    yield Place(file, entry["id"]).found("path-collision", message)
        ids = {entry["id"] for entry in entries}
        if shared := ids & self._ids:
            self._shared += len(shared)
            self._example = next(iter(shared))
        self._ids |= ids
        for _, entry in numbered(objects_of(content, "categories")):
            name = entry.get("name")
            if isinstance(name, str):
                first = self._classes.setdefault(normal_name(name), name)
                if first != name:
                    message = f"{shown(name)} is called {shown(first)} elsewhere."
                    yield Place(file).found("category-name-alike", message)

    def final_rules(self, file: str) -> Iterator[Finding]:
        """What is said once of all exports together."""
        if self._shared:
            message = f"{self._shared} image ids are used by several of the files, such as {shown(self._example)}."
            yield Place(file).found("id-shared", message)
