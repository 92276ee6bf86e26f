"""COCO instances, from CVAT ("COCO 1.0") or elsewhere, and COCO panoptic, which has a PNG of each image's segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detr_d2.errors import DatasetError
from detr_d2.wording import counted

from ..archives import ImageFinder, is_safe_name
from ..panoptic_ids import MAX_SEGMENT_ID
from ..panoptic_png import read_ids
from ..polygons import is_polygon
from ..records import Box, ClassRecord, Export, FileRef, Label, Polygons
from ..rules.json_files import list_of
from .building import ExportBuilder, PackedLabels
from .coco_values import Id, color_of, id_of, number_of, shape_of
from .shapes import BadShape, numbered, runs_of


@dataclass(frozen=True)
class SegmentMap:
    """Labels of a panoptic PNG; a source of labels.

    Args:
        png: its file.
        segments: class and whether it is a crowd, of each by its id.
    """

    png: FileRef
    segments: dict[int, tuple[str, bool]]

    def __call__(self) -> Sequence[Label]:
        ids, _ = read_ids(self.png)
        in_png, numbers = numbered(ids)
        shapes = dict(zip(in_png, runs_of(numbers + 1, len(in_png))))
        shapes.pop(0, None)
        for whose, wrong in (("has", shapes.keys() - self.segments), ("lacks", self.segments.keys() - shapes)):
            if wrong:
                other = "lacks" if whose == "has" else "has"
                raise DatasetError(
                    f"{self.png} {whose} {len(wrong)} ids that its JSON {other}, such as {min(wrong)}. "
                    "Take PNG and JSON from one export; 'detr-d2 check' names all of them."
                )
        segments = self.segments.items()
        return [Label(name, shape, crowd, id=one) for one, (name, crowd) in segments if (shape := shapes[one])]


def read_coco(
    content: dict[str, Any],
    file: FileRef,
    name: str,
    finder: ImageFinder,
    may_be_cvat: bool = False,
    pngs: ImageFinder | None = None,
) -> Export:
    """An export from its JSON.

    Args:
        content: of the JSON.
        file: the JSON.
        name: of the export.
        finder: of its images.
        may_be_cvat: the user says that it comes from CVAT; COCO's own files are known all the same.
        pngs: of COCO panoptic, finds its PNGs; None: it is COCO instances.

    Raises:
        DatasetError: a part of the JSON is missing or of a wrong type, or no image is there.
    """
    is_cvat = may_be_cvat and pngs is None and not _is_from_coco(content)
    classes = classes_of(content, file, are_things=True if pngs is None and not is_cvat else None)
    builder = ExportBuilder(name, "coco-panoptic" if pngs else "coco-instances", file, finder)
    reader = _AnnotationReader(builder, classes, pngs)
    annotations: dict[Id | None, list[dict[str, Any]]] = {}
    for entry in list_of(content, "annotations", str(file)):
        annotations.setdefault(id_of(entry.get("image_id")), []).append(entry)
    images = list_of(content, "images", str(file))
    counts = Counter(id_of(entry.get("id")) for entry in images)
    for entry in images:
        image_id = id_of(entry.get("id"))
        own = annotations.pop(image_id, []) if image_id is not None else []  # its memory is free for what comes
        reader.add_image(entry, own, is_unique=counts[image_id] == 1)
    for unknown, lost in annotations.items():
        message = f"{counted(len(lost), 'annotation has', 'annotations have')} image_id={unknown!r}, which images lacks"
        builder.note("image-unknown", f"{message}; left out.", label_id=number_of(lost[0].get("id")))
    return builder.finish(list(classes.values()), is_cvat)


def classes_of(content: dict[str, Any], file: FileRef, are_things: bool | None) -> dict[Id | None, ClassRecord]:
    """The classes by their id, in the file's order.

    Args:
        content: of the file.
        file: for messages.
        are_things: what they are where the file doesn't say.

    Raises:
        DatasetError: an id isn't one, or comes twice; a class has no name.
    """
    classes: dict[Id | None, ClassRecord] = {}
    for number, entry in enumerate(list_of(content, "categories", str(file))):
        key, name, said = id_of(entry.get("id")), entry.get("name"), entry.get("isthing")
        if key is None or not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{file}: categories[{number}] lacks an id or a name. Write both.")
        if key in classes:
            raise DatasetError(f"{file}: category id {key} is there twice. Give each class an id of its own.")
        classes[key] = ClassRecord(name, bool(said) if said in (0, 1) else are_things, color_of(entry.get("color")))
    return classes


def _is_from_coco(content: dict[str, Any]) -> bool:
    """Whether a file is the COCO dataset's own or cut out of it: its images have the dataset's addresses."""
    images = content.get("images")
    first = images[0] if isinstance(images, list) and images and isinstance(images[0], dict) else {}
    return isinstance(address := first.get("coco_url"), str) and bool(address)


class _AnnotationReader:
    """Turns images and their annotations into labels; what can't be one is noted."""

    def __init__(self, builder: ExportBuilder, classes: dict[Id | None, ClassRecord], pngs: ImageFinder | None) -> None:
        self._builder, self._note, self._classes, self._pngs = builder, builder.note, classes, pngs

    def add_image(self, entry: dict[str, Any], annotations: Sequence[dict[str, Any]], is_unique: bool) -> None:
        """Adds an image with its labels to the export; ``is_unique``: no other one has its id."""
        image_id, image = id_of(entry.get("id")), entry.get("file_name")
        if image_id is None or not isinstance(image, str) or not image:
            self._note("json-key", f"an image has id={image_id!r}, file_name={image!r}; left out.")
        elif not is_unique:
            message = f"image id {image_id} is there twice, so its labels could be another image's; left out."
            self._note("id-duplicate", message, image)
        elif file := self._builder.image_file(image):
            size = self._builder.size_of(entry, image)
            labels = self._segments(annotations, image) if self._pngs else self._objects(annotations, image, size)
            if labels is not None:
                self._builder.add(image, file, size, labels, image_id)

    def _objects(self, entries: Sequence[dict[str, Any]], image: str, size: tuple[int, int]) -> PackedLabels:
        """The labels of an image's instances."""
        return PackedLabels.of([label for entry in entries if (label := self._object(entry, image, *size))])

    def _segments(self, entries: Sequence[dict[str, Any]], image: str) -> SegmentMap | PackedLabels | None:
        """The labels of an image's segments; None, and a note, where its PNG isn't there."""
        if not entries:
            return PackedLabels.of(())
        for entry in entries[1:]:
            self._note("id-duplicate", f"an annotation has image_id={entry.get('image_id')!r} once more; left out.")
        name, infos = entries[0].get("file_name"), entries[0].get("segments_info")
        if not isinstance(name, str) or not is_safe_name(name) or not isinstance(infos, list):
            self._note("json-key", f"its annotation has file_name={str(name)[:200]!r}; left out.", image)
            return None
        png = self._pngs(name) if self._pngs else None
        if png is None:
            self._note("png-missing", f"{name} isn't in the export; the image is left out.", image)
            return None
        segments: dict[int, tuple[str, bool]] = {}
        for info in infos:
            segment_id = id_of(info.get("id")) if isinstance(info, dict) else None
            if not isinstance(segment_id, int) or not 1 <= segment_id <= MAX_SEGMENT_ID:
                self._note("id-range", f"a segment has the id {str(segment_id)[:50]}; left out.", image)
            elif category := self._category(info, image, segment_id):
                if segment_id in segments:
                    self._note("id-duplicate", f"segment id {segment_id} is there twice; the first counts.", image)
                segments.setdefault(segment_id, (category.name, info.get("iscrowd") in (1, True)))
        return SegmentMap(png, segments)

    def _category(self, entry: dict[str, Any], image: str, number: int) -> ClassRecord | None:
        key = id_of(entry.get("category_id"))
        category = self._classes.get(key) if key is not None else None
        if category is None:
            message = f"has category_id={str(entry.get('category_id'))[:50]}, which categories lacks; left out."
            self._note("category-unknown", message, image, label_id=number)
        return category

    def _object(self, entry: dict[str, Any], image: str, width: int, height: int) -> Label | None:
        """The label of an annotation, or None."""
        number = number_of(entry.get("id"))
        category = self._category(entry, image, number)
        if category is None:
            return None
        about = (image, category.name, number)
        try:
            shape = shape_of(entry, width, height)
            if isinstance(shape, Polygons):
                shape = self._drawable(shape, about)
        except BadShape as error:
            self._note(error.code, f"{error}; left out.", *about)
            return None
        crowd = entry.get("iscrowd", 0)
        if crowd not in (0, 1):
            self._note("crowd-value", f"has iscrowd={str(crowd)[:50]}; allowed are 0 and 1. It is taken for 0.", *about)
        if isinstance(shape, Box):
            message = "has no outline but a box, as a rectangle of CVAT has; the box is its mask."
            self._note("mask-box", message, *about)
        return Label(category.name, shape, is_crowd=crowd in (1, True), id=number)

    def _drawable(self, shape: Polygons, about: tuple[str, str, int]) -> Polygons:
        """The polygons that can be drawn; the others are noted."""
        kept = tuple(polygon for polygon in shape.polygons if is_polygon(polygon))
        if len(kept) < len(shape.polygons):
            lost = f"{len(shape.polygons) - len(kept)} of {len(shape.polygons)} polygons"
            message = f"has {lost} that aren't x and y of three points or more, all finite; left out."
            self._note("polygon-points", message, *about)
        if not kept:
            raise BadShape("mask-empty", "has no polygon that can be drawn")
        return Polygons(kept)
