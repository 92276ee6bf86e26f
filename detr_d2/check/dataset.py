"""All faults of a dataset, in one pass: its files of labels, their images in several processes, and all together.

Exports that aren't COCO's are "CVAT for images 1.1" and "Segmentation mask 1.1", in folders and zips. What reads them,
and what reads images, is imported only where it is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detr_d2.data.registration import entry_of
from detr_d2.errors import DatasetError
from detr_d2.files import SpecialFileError
from detr_d2.labels.rules.categories import Categories, normal_name
from detr_d2.labels.rules.document import walk_document
from detr_d2.labels.rules.images import FileNames, ImageTask, ListedImage
from detr_d2.labels.rules.json_files import PARTS, objects_of, read_json_file
from detr_d2.labels.rules.masks import mask_rules
from detr_d2.labels.rules.rule import RULES, Fault, Finding, Listing, Place, faults
from detr_d2.labels.values import is_id, is_text, numbered, shown
from detr_d2.parallel import in_processes

from .sources import Source, Sources

if TYPE_CHECKING:
    from detr_d2.labels.records import Export, ImageRecord, Label
    from detr_d2.labels.rules.splits import ListedDataset

#: Wraps images, to show how far the check is; gets their number as well.
Progress = Callable[[Iterable[Any], int], Iterable[Any]]
#: What the readers call it, where the checks have another word, or none as it is no fault.
_CODES = {"shape-number": "box", "shape-unknown": "shape-undrawn", "label-duplicate": "overlap"}
_CODES |= {"attribute-unused": "", "export-twice": ""}
#: A number that JSON doesn't have, in a message.
_CONSTANT = re.compile(r"\b(nan|inf)\b")


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
    check, has_errors = _Check(dataset, quick, workers, progress), False
    for found in check.faults():
        has_errors = has_errors or found.severity == "error"
        yield found
    if dataset.sources and not check.labelled and not has_errors:
        yield Place(dataset.sources[0].json_file).found("json-empty", check.emptiness()).fault()


class _Check:
    """A check that is going on; for its arguments see :func:`dataset_faults`.

    It counts files with labels, the images that they list, and the images that have a label.
    """

    def __init__(self, dataset: Sources, quick: bool, workers: int, progress: Progress) -> None:
        self._dataset, self._quick, self._workers, self._progress = dataset, quick, workers, progress
        self._merging = _Merging() if dataset.to_be_merged else None
        self._listed: dict[str, list[ListedImage]] = {}
        self.files = self.images = self.labelled = 0

    def faults(self) -> Iterator[Fault]:
        """Faults of each file, and of all together."""
        for source in self._dataset.sources:
            if not self._dataset.names:
                yield from faults(_name_rules(source))
            yield from self._export_faults(source) if source.export or source.refused else self._json_faults(source)
        if self._merging is not None:
            common = os.path.commonpath([source.json_file for source in self._dataset.sources])
            yield from faults(self._merging.final_rules(common))
        if len(self._dataset.names) > 1:
            from detr_d2.labels.rules.splits import find_leaks

            for _, leak in find_leaks(splits_of(self._dataset, self._listed), self._quick, self._workers):
                yield leak.fault()

    def _json_faults(self, source: Source) -> Iterator[Fault]:
        """Faults of a JSON, and of its images."""
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
            has_named_constants = has_named_constants or _CONSTANT.search(fault.message) is not None
            yield fault
        if not has_named_constants:
            yield from faults(read.constant_rules())
        document = walk.result
        assert document is not None
        tasks = [document.task(image_id) for image_id in document.images.entries]
        if len(self._dataset.names) > 1:
            self._listed[source.json_file] = [task.listed for task in tasks]
        yield from self._add(source, read.content, len(tasks), len(document.labels))
        if not self._quick:
            from detr_d2.labels.rules.image import image_faults

            yield from self._look(image_faults, tasks)

    def _export_faults(self, source: Source) -> Iterator[Fault]:
        """Faults of an export that isn't COCO's, or of what isn't read."""
        if source.export is None:
            yield Place(source.json_file).found("export-broken", source.refused).fault()
            return
        from detr_d2.labels.readers.discovery import read_found

        place = Place(source.json_file)
        try:
            export = read_found(source.export, "cvat")
        except (DatasetError, SpecialFileError) as error:
            message = str(error).removeprefix(place.file).lstrip(" :,")
            yield place.found("export-broken", message).fault()
            return
        if export is None:
            yield place.found("json-other", "isn't COCO's; it wasn't checked.").fault()
            return
        content, without = _content_of(export), _unlabelled(export)
        yield from faults(_export_rules(export, content, without, place))
        yield from self._add(source, content, len(export.images), len(export.images) - len(without))
        yield from self._look(partial(_export_image_faults, source.json_file), list(export.images))

    def _add(self, source: Source, content: dict[str, Any], images: int, labelled: int) -> Iterator[Fault]:
        """Counts what a file has; faults of it beside the earlier ones."""
        self.files, self.images, self.labelled = self.files + 1, self.images + images, self.labelled + labelled
        if self._merging is not None:
            yield from faults(self._merging.rules(content, source.json_file))

    def _look(self, function: Callable[[Any], list[Fault]], tasks: list[Any]) -> Iterator[Fault]:
        """What shows in the pixels."""
        if not self._quick:
            for found in self._progress(in_processes(function, tasks, self._workers), len(tasks)):
                yield from found

    def emptiness(self) -> str:
        """Why there was nothing to check."""
        if not self.files:
            return f"has none of {', '.join(PARTS)}, and nothing else was there to check."
        found = f"none of the {self.images} images has a label" if self.images else "no image is listed"
        return f"{found}{f' in {self.files} files' if self.files > 1 else ''}."


def is_of_coco(source: Source, content: dict[str, Any]) -> bool:
    """Whether a JSON is part of the dataset: it was named, or has something of COCO's."""
    return source.is_meant or any(key in content for key in PARTS)


def splits_of(dataset: Sources, listed: dict[str, list[ListedImage]]) -> list[ListedDataset]:
    """The registered datasets that were looked at, with the images of each."""
    from detr_d2.labels.rules.splits import ListedDataset

    entries = [entry for entry in map(entry_of, dataset.names) if entry is not None]
    files = [(entry.name, entry.panoptic_json or entry.instances_json) for entry in entries]
    return [ListedDataset(name, file, listed[file]) for name, file in files if file in listed]


def _name_rules(source: Source) -> Iterator[Finding]:
    """An export that was found by its folder is called by it once exports are merged."""
    from detr_d2.labels.readers.discovery import folder_of_export

    found = folder_of_export(Path(source.json_file)).name if source.export is None else source.export.name
    if not source.is_meant and not is_text(found):
        message = f"is of the export {shown(found)}, whose name isn't UTF-8; rename its folder or zip."
        yield Place(source.json_file).found("export-broken", message)


class _Merging:
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


def _content_of(export: Export) -> dict[str, list[dict[str, Any]]]:
    """Names and classes of an export as a COCO JSON has them."""
    images = [
        {"id": number if record.image_id is None else record.image_id, "file_name": record.name}
        for number, record in enumerate(export.images)
    ]
    return {"images": images, "categories": [{"id": n, "name": one.name} for n, one in enumerate(export.classes, 1)]}


def _unlabelled(export: Export) -> list[str]:
    """Names of the images without a label, as far as that is known before labels are read."""
    from detr_d2.labels.readers.building import PackedLabels

    nothing = PackedLabels.of(())
    return [record.name for record in export.images if record.labels == nothing]


def _export_rules(
    export: Export, content: dict[str, list[dict[str, Any]]], without: list[str], place: Place
) -> Iterator[Finding]:
    """Findings about what was noted while an export was read, its classes and names, without a look at pixels."""
    for note in export.notes:
        if code := _CODES.get(note.code, note.code):
            about = f"{note.class_name}: " if note.class_name else ""
            here = Place(place.file, note.image or None, note.label_id or None)
            yield here.found(code if code in RULES else "export-broken", about + note.message)
    categories = Categories(content["categories"], place.file, with_isthing=False)
    for number, entry in enumerate(content["categories"]):
        yield from categories.rules(entry, number)
        categories.add(entry, number)
    yield from categories.final_rules()
    names = FileNames(None, "image-missing")
    for image in content["images"]:
        yield from names.rules(image, Place(place.file, image["id"], None, f"image {image['id']}"))
    if without:
        named = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
        yield place.found("image-unlabelled", f"{len(without)} of {len(export.images)} images have no label: {named}.")


def _export_image_faults(file: str, record: ImageRecord) -> list[Fault]:
    """Faults of one image of an export, and of what is drawn on it."""
    from detr_d2.labels.rules.image import image_faults

    image_id = record.name if record.image_id is None else record.image_id
    listed = ListedImage(image_id, str(record.image), (record.width, record.height))
    labels: Iterable[Label] = ()
    findings: list[Finding] = []
    try:
        labels = record.read_labels()
    except (DatasetError, SpecialFileError) as error:
        findings.append(Place(file, image_id).found("export-broken", str(error)))
    entries = []
    for label in labels if record.width else ():
        place = Place(file, image_id, label.id, f"label {label.id} ({label.class_name})")
        try:
            entry = {"id": label.id, "iscrowd": int(label.is_crowd), "segmentation": _segmentation(label, record)}
        except DatasetError as error:
            findings.append(place.found("mask-empty", str(error)))
            continue
        findings += mask_rules(entry, listed.size, place)
        entries.append(entry)
    return [*faults(findings), *image_faults(ImageTask(listed, file, entries))]


def _segmentation(label: Label, record: ImageRecord) -> Any:
    """As COCO has it."""
    from detr_d2.labels.readers.building import shape_mask
    from detr_d2.labels.records import Polygons
    from detr_d2.labels.run_lengths import compressed, encoded

    if isinstance(label.shape, Polygons):
        return [list(polygon) for polygon in label.shape.polygons]
    mask = shape_mask(label.shape, record.height, record.width)
    return compressed(encoded(mask))
