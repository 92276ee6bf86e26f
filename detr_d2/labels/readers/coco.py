"""COCO instances, from CVAT ("COCO 1.0") or elsewhere, and COCO panoptic, which has a PNG of each image's segments.

What is wrong with them, and what is made of it, the rules of :mod:`detr_d2.labels.rules` say: errors are fixed as
``detr-d2 check --fix`` fixes them, or left out where nothing does, and each is noted under its code. Warnings stay.

Source: the exports of CVAT; its rectangles have no outline, their ``area`` is width times height; its brush masks and
ellipses are uncompressed run lengths with ``iscrowd: 1``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from detr_d2.errors import DatasetError
from detr_d2.files import SpecialFileError, refuse_special

from ..records import Box, ClassRecord, Export, FileRef, Label, Note, Polygons, Runs, Shape
from ..rules.annotations import box_rules
from ..rules.document import Document, walk_document
from ..rules.image import SIZE_CODES, image_file_rules, read_image_file, sizes_of_masks, walk_image
from ..rules.images import FileNames, ImageTask, ListedImage
from ..rules.json_files import objects_of, read_object
from ..rules.masks import mask_rules
from ..rules.rule import BrokenRuleError, Change, Finding, Place, drive, fix
from ..values import Size, Unreadable, color_of, is_id, is_number, numbered
from .building import ExportBuilder, ImageFinder, PackedLabels, plain_name, shapes_of

Entry = dict[str, Any]
#: 1 or 0, a thing or stuff, by names of classes that are known; asked where a file doesn't say it.
KnownThings = Callable[[], Mapping[str, int]]
_RECTANGLE = 1e-3


@dataclass(frozen=True)
class SegmentMap:
    """Labels of a panoptic PNG, fixed as ``check --fix`` fixes them; a source of labels.

    ``names`` are those of the segments' classes, by category id.
    """

    task: ImageTask
    names: Mapping[int, str]

    def __call__(self, notes_: list[Note] | None = None, size: Size | None = None) -> Sequence[Label]:
        """The labels; what was fixed is put into ``notes_``, and ``size`` is the image's.

        Raises:
            DatasetError: the PNG can't be read, or is of something else.
        """
        labels, listed = [{**segment} for segment in self.task.labels], self.task.listed
        listed = listed if size is None else listed._replace(size=size)
        entry = {"width": listed.size[0], "height": listed.size[1]} if listed.size[0] else {}
        task, png = replace(self.task, listed=listed, labels=labels, entry=entry), self.task.png or ""
        try:
            refuse_special(png)
        except SpecialFileError as error:
            raise BrokenRuleError(str(error), "png-missing") from error
        changes: list[Change] = []
        seen = drive(walk_image(task), lambda findings: _fix_errors(findings, changes))
        if seen is None or seen.png is None or seen.png.ids is None:
            code, why = (changes[-1].code, changes[-1].done) if changes else ("png-mode", "it has no ids")
            raise BrokenRuleError(f"{png}: {why}.", code)
        if notes_ is not None:
            notes_ += (Note(one.code, _sentence(one), one.file) for one in changes)
        shapes = shapes_of(seen.png.ids)
        found = ((segment, shapes.get(segment["id"])) for segment in seen.labels)
        return [
            Label(self.names[segment["category_id"]], shape, bool(segment.get("iscrowd", 0)), id=segment["id"])
            for segment, shape in found
            if shape
        ]


def read_coco(
    content: Entry,
    file: FileRef,
    name: str,
    finder: ImageFinder,
    may_be_cvat: bool = False,
    pngs: ImageFinder | None = None,
    known_things: KnownThings = dict,
) -> Export:
    """An export from its JSON.

    Args:
        content: of the JSON, which isn't needed afterwards: it is changed.
        file, name, finder: see :class:`~.building.ExportBuilder`.
        may_be_cvat: the user says that it comes from CVAT; COCO's own files are known all the same.
        pngs: of COCO panoptic, finds its PNGs; None: it is COCO instances.
        known_things: whether classes are things, for a panoptic file that doesn't say it.

    Raises:
        DatasetError: a part of the JSON is missing or of a wrong type, or no image is there.
    """
    # The COCO dataset's own images, and what is cut out of it, have the dataset's addresses.
    first = next((entry for _, entry in numbered(objects_of(content, "images")[:1])), {})
    is_from_coco = isinstance(first.get("coco_url"), str) and first["coco_url"]
    is_cvat = may_be_cvat and pngs is None and not is_from_coco
    reader = _Reader(content, file, name, finder, pngs)
    document = reader.walk(known_things)
    are_things = pngs is None and not is_cvat
    classes = {
        # What a category says of itself; else whether all of the file are things; None where nobody says.
        one["id"]: ClassRecord(
            one["name"], bool(one["isthing"]) if "isthing" in one else are_things or None, color_of(one.get("color"))
        )
        for one in document.categories.entries
    }
    names = {number: record.name for number, record in classes.items()}
    merged = set(document.images.merged.values())
    for image_id in document.images.entries:
        task = document.task(image_id)
        labels = document.labels.pop(image_id, None)  # its memory is free for what comes
        annotation = labels.annotation if labels is not None else None
        reader.add_image(task, names, image_id in merged, annotation)
    return reader.builder.finish(list(classes.values()), is_cvat)


def load_json(file: FileRef) -> Entry:
    """The object at the top of a JSON file.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read, isn't JSON, isn't an object, or wouldn't fit into memory.
    """
    content = file.read()
    try:
        return read_object(lambda: io.BytesIO(content))
    except Unreadable as problem:
        raise DatasetError(f"{file} {problem.args[1]} Export it again, in parts where it is too large.") from problem


def _fix_errors(findings: Iterable[Finding], changes_: list[Change]) -> bool:
    """Applies the fixes of what is wrong; False where nothing is left. Warnings stay."""
    return fix((found for found in findings if found.rule.severity == "error"), changes_)


def _sentence(change: Change) -> str:
    left_out = "; left out" if change.action == "removed" and "left out" not in change.done else ""
    return f"{change.done}{left_out}."


class _Reader:
    """Turns a JSON into labels; what had to be fixed or left out is noted."""

    def __init__(self, content: Entry, file: FileRef, name: str, finder: ImageFinder, pngs: ImageFinder | None) -> None:
        self.builder = ExportBuilder(name, "coco-panoptic" if pngs else "coco-instances", file, finder)
        self._content, self._file, self._place = content, str(file), Place(str(file))
        self._finders = {"image-missing": finder, "png-missing": pngs or finder}
        self._files: dict[str, FileNames] = {}
        entries = objects_of(content, "images")
        self._names = {entry["id"]: entry.get("file_name") for _, entry in numbered(entries) if is_id(entry.get("id"))}

    def walk(self, known_things: KnownThings) -> Document:
        """What the JSON says, right as far as that goes without pixels."""
        last = ""

        def names_of(missing: str, named: Iterable[Any]) -> FileNames:
            finder = self._finders[missing]
            self._files[missing] = FileNames(None, missing, named, lambda name: finder(plain_name(name)))
            return self._files[missing]

        def keeps(findings: Iterable[Finding]) -> bool:
            nonlocal last
            changes: list[Change] = []
            is_kept = _fix_errors(findings, changes)
            for change in changes:
                last = change.done
                image, label = self._names.get(change.image_id), change.segment_id
                name, label_id = image[:200] if isinstance(image, str) else "", label if isinstance(label, int) else 0
                self.builder.note(change.code, _sentence(change), name, label_id=label_id)
            return is_kept

        document = drive(walk_document(self._content, self._file, None, None, known_things, names_of), keeps)
        if document is None:
            raise DatasetError(f"{self._file}: {last}.")
        return document

    def add_image(
        self, task: ImageTask, names: Mapping[int, str], is_merged: bool, annotation: Entry | None = None
    ) -> None:
        """Adds an image with its labels to the export.

        Args:
            names: of the classes, by category id.
            is_merged: the labels are of several entries.
            annotation: the panoptic one, which names the PNG.
        """
        assert task.entry is not None
        name, image_id = task.entry["file_name"], task.listed.image_id
        file = self._files["image-missing"].file(name)
        if file is None or (task.is_panoptic and task.count and task.png is None):
            return  # its PNG isn't there, which was noted
        size = self.builder.size_of(task.entry, name)
        if task.png is not None and annotation is not None:
            used = {one["category_id"]: names[one["category_id"]] for one in task.labels}
            listed = ListedImage(image_id, None, size)
            source = SegmentMap(replace(task, listed=listed, entry={}, may_lose_labels=True), used)
            png = self._files["png-missing"].file(annotation["file_name"])
            self.builder.add(name, file, size, source, image_id, png)
            return
        size = self._measured(task, file, size, name)
        found = (label for one in task.labels if (label := self._label(one, name, size, names)))
        kept = self.builder.once(found, name) if is_merged else found
        self.builder.add(name, file, size, PackedLabels.of([*kept]), image_id)

    def _measured(self, task: ImageTask, file: FileRef, said: Size, name: str) -> Size:
        """The size of an image: where all its run lengths are of another one than is said, the file decides."""
        entry, masks = {"width": said[0], "height": said[1]}, sizes_of_masks(task.labels)
        if len(masks) != 1 or said in masks or not said[0]:
            return said
        try:
            image = read_image_file(str(file))
        except Unreadable:
            return said  # which is noted in its turn
        for found in image_file_rules(image, None, entry, masks):
            if found.rule.code in SIZE_CODES and image.shown_size in masks and found.fix is not None:
                self.builder.note(found.rule.code, f"{found.fix().text}.", name)
        return entry["width"], entry["height"]

    def _label(self, entry: Entry, image: str, size: tuple[int, int], names: Mapping[int, str]) -> Label | None:
        """The label of an annotation; None, and a note, where nothing of it is left."""
        place, class_name = self._place, names[entry["category_id"]]
        changes: list[Change] = []
        is_kept = _fix_errors(mask_rules(entry, size, place), changes)
        if is_kept and not entry.get("segmentation"):
            is_kept = _fix_errors(box_rules(entry, size, place), changes)
        shape = _shape_of(entry) if is_kept else None
        found = [(change.code, _sentence(change)) for change in changes]
        if isinstance(shape, Box) and not changes:
            message = "has no outline but a box, as a rectangle of CVAT has; the box is its mask."
            found = [("mask-box", message)]
        elif shape is None:
            why = [("mask-empty", "has neither an outline nor a rectangle; left out.")] if is_kept else []
            found = [((found + why)[0][0], " ".join(text for _, text in found + why))]
        for code, message in found:
            self.builder.note(code, message, image, class_name, entry["id"], is_lost=shape is None)
        if shape is None:
            return None
        return Label(class_name, shape, is_crowd=bool(entry.get("iscrowd", 0)), id=entry["id"])


def _shape_of(annotation: Entry) -> Shape | None:
    """The shape of an annotation whose mask, or else box, is right; None for a box that is no rectangle of CVAT's."""
    value = annotation.get("segmentation")
    if isinstance(value, list):
        return Polygons(tuple(tuple(map(float, polygon)) for polygon in value)) if value else _rectangle(annotation)
    if not isinstance(value, dict) or not value:
        return _rectangle(annotation)
    counts, (height, width) = value["counts"], value["size"]
    return Runs((height, width), counts.encode("ascii") if isinstance(counts, str) else tuple(counts))


def _rectangle(annotation: Entry) -> Box | None:
    """What CVAT writes for a rectangle; None for anything else without an outline."""
    (left, top, width, height), area = annotation["bbox"], annotation.get("area")
    if not is_number(area) or abs(area - width * height) > _RECTANGLE * width * height + 0.1:
        return None
    attributes = annotation.get("attributes")
    turned = attributes.get("rotation") if isinstance(attributes, dict) else None
    return Box(left, top, left + width, top + height, float(turned) if is_number(turned) else 0.0)
