"""COCO panoptic: a JSON that lists the segments of each picture, and a PNG for each that shows where they are."""

from __future__ import annotations

from typing import Any

from ..records import ClassRecord, Export, FileRef
from .archives import is_safe_name
from .building import ExportBuilder, PackedLabels
from .finding import PictureFinder
from .json_source import Id, classes_of, id_of, part
from .label_maps import SegmentMap


def read_coco_panoptic(
    content: dict[str, Any], file: FileRef, name: str, pictures: PictureFinder, pngs: PictureFinder
) -> Export:
    """An export from its JSON.

    Args:
        content: of the JSON.
        file: the JSON.
        name: of the export.
        pictures, pngs: find the files.

    Raises:
        DatasetError: a part of the JSON is missing or of a wrong type, or no picture is there.
    """
    classes = classes_of(content, file, are_things=None)
    builder = ExportBuilder(name, "coco-panoptic", file, pictures)
    annotations: dict[Id, dict[str, Any]] = {}
    for entry in part(content, "annotations", file):
        image_id = id_of(entry.get("image_id"))
        if image_id is None or image_id in annotations:
            builder.notes.add("id-duplicate", f"an annotation has image_id={image_id!r} once more; left out.")
            continue
        annotations[image_id] = entry
    seen: set[Id] = set()
    for entry in part(content, "images", file):
        image_id, picture = id_of(entry.get("id")), entry.get("file_name")
        if image_id is None or not isinstance(picture, str) or not picture or image_id in seen:
            builder.notes.add("json-key", f"an image has id={image_id!r}, file_name={picture!r}; left out.")
            continue
        seen.add(image_id)
        image = builder.picture_file(picture)
        if image is None:
            continue
        labels = _labels(annotations.get(image_id), classes, builder, pngs, picture)
        if labels is not None:
            builder.add(picture, image, builder.size_of(entry, picture), labels, image_id)
    for image_id in annotations.keys() - seen:
        builder.notes.add("image-unknown", f"an annotation has image_id={image_id!r}, which images lacks; left out.")
    return builder.finish(list(classes.values()), is_cvat=False)


def _labels(
    annotation: dict[str, Any] | None,
    classes: dict[Id, ClassRecord],
    builder: ExportBuilder,
    pngs: PictureFinder,
    picture: str,
) -> SegmentMap | PackedLabels | None:
    """The labels of a picture; none, and a note, where its PNG isn't there."""
    if annotation is None:
        return PackedLabels.of(())
    png, infos = annotation.get("file_name"), annotation.get("segments_info")
    if not isinstance(png, str) or not is_safe_name(png) or not isinstance(infos, list):
        builder.notes.add("json-key", f"its annotation has file_name={str(png)[:200]!r}; left out.", picture)
        return None
    found = pngs(png)
    if found is None:
        builder.notes.add("png-missing", f"{png} isn't in the export; the picture is left out.", picture)
        return None
    segments: dict[int, tuple[int, str, bool]] = {}
    for info in infos:
        segment = _segment(info, classes, builder, picture)
        if segment is not None and segments.setdefault(segment[0], segment) is not segment:
            builder.notes.add("id-duplicate", f"segment id {segment[0]} is there twice; the first counts.", picture)
    return SegmentMap(found, tuple(segments.values()))


def _segment(
    info: Any, classes: dict[Id, ClassRecord], builder: ExportBuilder, picture: str
) -> tuple[int, str, bool] | None:
    segment_id = id_of(info.get("id")) if isinstance(info, dict) else None
    if not isinstance(segment_id, int) or not 0 < segment_id < 256**3:
        builder.notes.add("id-range", f"a segment has the id {str(segment_id)[:50]}; left out.", picture)
        return None
    category = classes.get(found) if (found := id_of(info.get("category_id"))) is not None else None
    if category is None:
        message = f"has category_id={str(info.get('category_id'))[:50]}, which categories lacks; left out."
        builder.notes.add("category-unknown", message, picture, label_id=segment_id)
        return None
    return segment_id, category.name, info.get("iscrowd") in (1, True)
