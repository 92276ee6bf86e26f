"""COCO instances, from CVAT ("COCO 1.0") or elsewhere.

Source: the exports of CVAT; its rectangles have no outline, their ``area`` is width times height; its brush masks and
ellipses are uncompressed run lengths with ``iscrowd: 1``.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ..polygons import MOST_COORDINATE, is_polygon
from ..records import Box, ClassRecord, Export, FileRef, Label, Polygons, Runs, Shape
from ..run_lengths import decompressed
from .building import ExportBuilder, PackedLabels
from .finding import PictureFinder
from .json_source import Id, classes_of, finite_numbers, id_of, number_of, part

_RECTANGLE = 1e-3


def read_coco_instances(
    content: dict[str, Any], file: FileRef, name: str, finder: PictureFinder, may_be_cvat: bool
) -> Export:
    """An export from its JSON.

    Args:
        content: of the JSON.
        file: the JSON.
        name: of the export.
        finder: of its pictures.
        may_be_cvat: the user says that it comes from CVAT; COCO's own files are known all the same.

    Raises:
        DatasetError: a part of the JSON is missing or of a wrong type, or no picture is there.
    """
    is_cvat = may_be_cvat and not _is_from_coco(content)
    classes = classes_of(content, file, are_things=None if is_cvat else True)
    builder = ExportBuilder(name, "coco-instances", file, finder)
    reader = _AnnotationReader(builder, classes)
    grouped: dict[Id, list[dict[str, Any]]] = defaultdict(list)
    for entry in part(content, "annotations", file):
        grouped[_known(entry.get("image_id"))].append(entry)
    images = part(content, "images", file)
    twice = _repeated([id_of(entry.get("id")) for entry in images])
    for entry in images:
        image_id, picture = id_of(entry.get("id")), entry.get("file_name")
        if image_id is None or not isinstance(picture, str) or not picture:
            builder.notes.add("json-key", f"an image has id={image_id!r}, file_name={picture!r}; left out.")
            continue
        annotations = grouped.get(image_id, [])
        if image_id in twice:
            message = f"image id {image_id} is there twice, so its labels could be another picture's; left out."
            builder.notes.add("id-duplicate", message, picture)
            continue
        image = builder.picture_file(picture)
        if image is not None:
            width, height = builder.size_of(entry, picture)
            labels = [label for one in annotations for label in reader.labels(one, picture, width, height)]
            builder.add(picture, image, (width, height), PackedLabels.of(labels), image_id)
        grouped[image_id] = []  # the memory of what was read is free for what comes
    listed = {id_of(entry.get("id")) for entry in images}
    for image_id, lost in grouped.items():
        if image_id not in listed:
            message = f"{len(lost)} annotations have image_id={image_id!r}, which images lacks; left out."
            builder.notes.add("image-unknown", message, label_id=number_of(lost[0].get("id")) if lost else 0)
    return builder.finish(list(classes.values()), is_cvat)


def _known(image_id: Any) -> Id:
    found = id_of(image_id)
    return "" if found is None else found


def _repeated(ids: list[Id | None]) -> set[Id | None]:
    seen: set[Id | None] = set()
    return {one for one in ids if one in seen or seen.add(one)}  # type: ignore[func-returns-value]


def _is_from_coco(content: dict[str, Any]) -> bool:
    """Whether a file is the COCO dataset's own or cut out of it: its pictures have the dataset's addresses."""
    images = content.get("images")
    first = images[0] if isinstance(images, list) and images and isinstance(images[0], dict) else {}
    return isinstance(address := first.get("coco_url"), str) and bool(address)


class _AnnotationReader:
    """Turns annotations into labels; what can't be one is noted."""

    def __init__(self, builder: ExportBuilder, classes: dict[Id, ClassRecord]) -> None:
        self._notes, self._classes = builder.notes, classes

    def labels(self, entry: dict[str, Any], picture: str, width: int, height: int) -> list[Label]:
        """The label of an annotation, or none."""
        number = number_of(entry.get("id"))
        category = self._classes.get(_known(entry.get("category_id")))
        if category is None:
            message = f"has category_id={entry.get('category_id')!r}, which categories lacks; left out."
            self._notes.add("category-unknown", message[:200], picture, label_id=number)
            return []
        found = self._shape(entry, width, height)
        if isinstance(found, Polygons):
            found = self._drawable(found, picture, category.name, number)
        if isinstance(found, tuple):
            self._notes.add(*found, picture, category.name, number)
            return []
        crowd = entry.get("iscrowd", 0)
        if crowd not in (0, 1):
            message = f"has iscrowd={str(crowd)[:50]}; allowed are 0 and 1. It is taken for 0."
            self._notes.add("crowd-value", message, picture, category.name, number)
        if isinstance(found, Box):
            message = "has no outline but a box, as a rectangle of CVAT has; the box is its mask."
            self._notes.add("mask-box", message, picture, category.name, number)
        return [Label(category.name, found, is_crowd=crowd in (1, True), id=number)]

    def _drawable(self, shape: Polygons, picture: str, class_name: str, number: int) -> Polygons | tuple[str, str]:
        """The polygons that can be drawn."""
        kept = tuple(polygon for polygon in shape.polygons if is_polygon(polygon))
        if len(kept) < len(shape.polygons):
            lost = f"{len(shape.polygons) - len(kept)} of {len(shape.polygons)} polygons"
            message = f"has {lost} that aren't x and y of three points or more, all finite; left out."
            self._notes.add("polygon-points", message, picture, class_name, number)
        return Polygons(kept) if kept else ("mask-empty", "has no polygon that can be drawn; left out.")

    def _shape(self, entry: dict[str, Any], width: int, height: int) -> Shape | tuple[str, str]:
        """The shape, or a code and a sentence that say why there is none."""
        value = entry.get("segmentation")
        if value is None or value == [] or value == {}:
            return _rectangle(entry) or ("mask-empty", "has neither an outline nor a rectangle; left out.")
        if isinstance(value, list):
            return _polygons(value)
        if isinstance(value, dict):
            return _runs(value, width, height)
        return "mask-type", "has a segmentation that is neither polygons nor run lengths; left out."


def _rectangle(entry: dict[str, Any]) -> Box | None:
    """What CVAT writes for a rectangle; None for anything else without an outline."""
    box, area = finite_numbers(entry.get("bbox"), 4), entry.get("area")
    if box is None or min(box[2:]) <= 0 or max(map(abs, box)) >= MOST_COORDINATE:
        return None
    if not isinstance(area, int | float) or abs(area - box[2] * box[3]) > _RECTANGLE * box[2] * box[3] + 0.1:
        return None
    attributes = entry.get("attributes")
    turned = attributes.get("rotation") if isinstance(attributes, dict) else None
    rotation = float(turned) if isinstance(turned, int | float) and -1e6 < turned < 1e6 else 0.0
    return Box(box[0], box[1], box[0] + box[2], box[1] + box[3], rotation)


def _polygons(value: list[Any]) -> Shape | tuple[str, str]:
    """The polygons; one that isn't one becomes an empty one."""
    if not all(isinstance(polygon, list) for polygon in value):
        return "mask-type", "has a list of numbers for its outline; a list of polygons is needed. Left out."
    return Polygons(tuple(finite_numbers(polygon) or () for polygon in value))


def _runs(value: dict[str, Any], width: int, height: int) -> Shape | tuple[str, str]:
    size, counts = finite_numbers(value.get("size"), 2), value.get("counts")
    if size is None or (width and size != (height, width)):
        said = f"{size[1]:g}x{size[0]:g} pixels" if size else "of no size"
        return "rle-size", f"has a mask {said}; its picture is {width}x{height}. Left out."
    lengths = decompressed(counts) if isinstance(counts, str) else counts
    whole = isinstance(lengths, list) and all(type(length) is int and length >= 0 for length in lengths)
    if not whole or lengths is None or sum(lengths) != size[0] * size[1]:
        return "rle-counts", "has run lengths that don't fill its picture; left out."
    if not any(lengths[1::2]):
        return "mask-empty", "has run lengths without a pixel; left out."
    kept = counts.encode("ascii") if isinstance(counts, str) else tuple(lengths)
    return Runs((int(size[0]), int(size[1])), kept)
