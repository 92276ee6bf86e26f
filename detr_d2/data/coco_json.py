"""COCO's JSON files as Detectron2's dataset dicts, refused with file and entry named where they are wrong."""

from __future__ import annotations

import logging
import os
from typing import Any

from detr_d2.labels.json_reading import list_of, text, whole_number
from detr_d2.labels.panoptic_ids import MAX_SEGMENT_ID
from detr_d2.labels.values import is_number, shown

from ..errors import DatasetError, MissingFileError
from .categories import Category, distinct_colors

logger = logging.getLogger(__name__)

DatasetDict = dict[str, Any]


def read_categories(content: dict[str, Any], path: str, all_things: bool = False) -> list[Category]:
    """The categories of a COCO file, in its order.

    Args:
        content: of the file.
        path: of the file, for messages.
        all_things: a file of COCO instances: everything is a thing, and ``isthing`` may be absent.

    Raises:
        DatasetError: an id or a name is missing, wrong or there twice, or ``isthing`` isn't 0 or 1.
    """
    entries = list_of(content, "categories", path)
    if not entries:
        raise DatasetError(f"{path} has no categories; without them there is nothing to learn.")
    colors = distinct_colors(len(entries)) if len(entries) <= 1000 else ()
    categories: list[Category] = []
    seen: dict[int | str, int] = {}
    for number, entry in enumerate(entries):
        place = f"{path}: categories[{number}]"
        category_id = whole_number(entry, "id", place)
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{place} has name={name!r}; a name is a word or more.")
        for value in (category_id, name):
            if value in seen:
                raise DatasetError(f"{place} has the id or name {value!r} of categories[{seen[value]}] too.")
            seen[value] = number
        is_thing = entry.get("isthing", 1 if all_things else None)
        if not isinstance(is_thing, int) or is_thing not in (0, 1):
            raise DatasetError(
                f"{place} ({name}) has isthing={is_thing!r}; allowed are 0 (stuff) and 1 (thing). Fix it in the file."
            )
        color = _color(entry.get("color")) or (colors[number] if colors else (128, 128, 128))
        categories.append(Category(category_id, name, bool(is_thing) or all_things, color))
    return categories


def panoptic_dicts(
    content: dict[str, Any], path: str, images: str, panoptic_root: str, contiguous: dict[int, tuple[int, bool]]
) -> list[DatasetDict]:
    """One dict for each annotated image of a COCO panoptic file.

    Args:
        content: of the file.
        path: of the file, for messages.
        images: folder of the images.
        panoptic_root: folder of the panoptic PNGs.
        contiguous: dataset id to contiguous id and whether it is a thing.

    Raises:
        DatasetError: ids that are unknown, doubled or out of range; keys that are missing.
        MissingFileError: an image or a PNG isn't there.
    """
    listed = _images(content, path)
    dicts: list[DatasetDict] = []
    annotated: dict[Any, int] = {}
    for number, entry in enumerate(list_of(content, "annotations", path)):
        place = f"{path}: annotations[{number}]"
        image_id = _known_image(entry, listed, place)
        if image_id in annotated:
            raise DatasetError(f"{place} and annotations[{annotated[image_id]}] are both of image id {image_id}.")
        annotated[image_id] = number
        image = listed[image_id]
        dicts.append(
            {
                "file_name": os.path.join(images, image["file_name"]),
                "image_id": image_id,
                "height": image["height"],
                "width": image["width"],
                "pan_seg_file_name": os.path.join(panoptic_root, text(entry, "file_name", place)),
                "segments_info": _segments(entry, f"{place} (image id {image_id})", contiguous),
            }
        )
    _require_files(dicts, ("file_name", "pan_seg_file_name"), path)
    _report_crowds([segment for entry in dicts for segment in entry["segments_info"]], path)
    if len(dicts) < len(listed):
        logger.warning("%s: %d images have no annotation and are left out.", path, len(listed) - len(dicts))
    return dicts


def instances_dicts(
    content: dict[str, Any], path: str, images: str, contiguous: dict[int, tuple[int, bool]], box_mode: int
) -> list[DatasetDict]:
    """One dict for each image of a COCO instances file, its objects under ``annotations`` as Detectron2 has them.

    Boxes without an area are left out and counted in the log. Segmentations without a polygon or a run are left out,
    and their boxes stay.

    Args:
        content, path, images, contiguous: as for :func:`panoptic_dicts`.
        box_mode: what to call x, y, width, height: ``BoxMode.XYWH_ABS``.

    Raises:
        DatasetError: ids that are unknown or doubled, boxes that aren't four numbers, keys that are missing.
        MissingFileError: an image isn't there.
    """
    listed = _images(content, path)
    found: dict[Any, list[DatasetDict]] = {image_id: [] for image_id in listed}
    flat = 0
    for number, entry in enumerate(list_of(content, "annotations", path)):
        place = f"{path}: annotations[{number}] (id {entry.get('id')!r})"
        image_id = _known_image(entry, listed, place)
        category_id, _ = known_category(entry, contiguous, place)
        box = _box(entry, place)
        if box[2] <= 0 or box[3] <= 0:
            flat += 1
            continue
        instance: DatasetDict = {
            "bbox": box,
            "bbox_mode": box_mode,
            "category_id": category_id,
            "iscrowd": _crowd(entry, place),
        }
        segmentation = _segmentation(entry.get("segmentation"), listed[image_id], place)
        if segmentation:
            instance["segmentation"] = segmentation
        found[image_id].append(instance)
    if flat:
        logger.warning("%s: %d boxes without an area are left out.", path, flat)
    dicts: list[DatasetDict] = [
        {
            "file_name": os.path.join(images, image["file_name"]),
            "image_id": image_id,
            "height": image["height"],
            "width": image["width"],
            "annotations": found[image_id],
        }
        for image_id, image in listed.items()
    ]
    _require_files(dicts, ("file_name",), path)
    _report_crowds([instance for instances in found.values() for instance in instances], path)
    return dicts


def _box(entry: dict[str, Any], place: str) -> list[float]:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise DatasetError(f"{place} has bbox={shown(box)}; it must be [x, y, width, height], four finite numbers.")
    return [float(side) for side in box]


def _crowd(entry: dict[str, Any], place: str) -> int:
    crowd = entry.get("iscrowd", 0)
    if isinstance(crowd, bool) or not isinstance(crowd, int) or crowd not in (0, 1):
        raise DatasetError(f"{place} has iscrowd={crowd!r}; allowed are 0 and 1.")
    return crowd


def _segmentation(value: Any, image: dict[str, Any], place: str) -> Any:
    """Polygons, or run lengths in pycocotools' compressed form; None where there is nothing."""
    if not value:
        return None
    if isinstance(value, list):
        return [
            polygon for polygon in value if isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        ]
    height, width = image["height"], image["width"]
    if not isinstance(value, dict) or value.get("size") != [height, width] or not value.get("counts"):
        raise DatasetError(
            f"{place} has a segmentation that is neither polygons nor run lengths of the image's size "
            f"[{height}, {width}]."
        )
    if isinstance(value["counts"], list):
        from pycocotools import mask as coco_mask  # few files need it

        return coco_mask.frPyObjects(value, height, width)
    return value


def _report_crowds(entries: list[dict[str, Any]], path: str) -> None:
    crowds = sum(entry["iscrowd"] for entry in entries)
    if crowds:
        logger.info("%s: %d of %d are crowds (iscrowd: 1), which aren't trained on.", path, crowds, len(entries))


def _segments(entry: dict[str, Any], place: str, contiguous: dict[int, tuple[int, bool]]) -> list[DatasetDict]:
    segments: list[DatasetDict] = []
    seen: set[int] = set()
    for segment in list_of(entry, "segments_info", place):
        segment_id = whole_number(segment, "id", f"{place}: a segment")
        here = f"{place}: segment {segment_id}"
        if not 1 <= segment_id <= MAX_SEGMENT_ID:
            raise DatasetError(f"{here} has an id out of 1 to {MAX_SEGMENT_ID}; 0 is void.")
        if segment_id in seen:
            raise DatasetError(f"{here} is listed twice; ids are unique within an image.")
        seen.add(segment_id)
        category_id, is_thing = known_category(segment, contiguous, here)
        crowd = _crowd(segment, here)
        info: DatasetDict = {"id": segment_id, "category_id": category_id, "isthing": is_thing, "iscrowd": crowd}
        info.update((key, segment[key]) for key in ("area", "bbox") if key in segment)
        segments.append(info)
    return segments


def known_category(entry: dict[str, Any], contiguous: dict[int, tuple[int, bool]], place: str) -> tuple[int, bool]:
    """Contiguous id of an entry's category and whether it is a thing.

    Raises:
        DatasetError: the category isn't among the file's.
    """
    category_id = whole_number(entry, "category_id", place)
    if category_id not in contiguous:
        known = ", ".join(map(str, sorted(contiguous)[:8])) + (", ..." if len(contiguous) > 8 else "")
        raise DatasetError(f"{place} has category_id={category_id}, which isn't among the file's categories ({known}).")
    return contiguous[category_id]


def _images(content: dict[str, Any], path: str) -> dict[Any, dict[str, Any]]:
    """The entries of ``images`` by id, each with a file name and a size."""
    images: dict[Any, dict[str, Any]] = {}
    for number, entry in enumerate(list_of(content, "images", path)):
        place = f"{path}: images[{number}]"
        image_id = entry.get("id")
        if isinstance(image_id, bool) or not isinstance(image_id, (int, str)):
            raise DatasetError(f"{place} has id={image_id!r}; an id is a whole number (or a word).")
        if image_id in images:
            raise DatasetError(f"{place} has the id {image_id!r} of an earlier image; each may come once.")
        text(entry, "file_name", place)
        for key in ("width", "height"):
            if whole_number(entry, key, place) < 1:
                raise DatasetError(f"{place} has {key}={entry[key]}; an image has at least one pixel.")
        images[image_id] = entry
    return images


def _known_image(entry: dict[str, Any], listed: dict[Any, dict[str, Any]], place: str) -> Any:
    image_id = entry.get("image_id")
    if isinstance(image_id, (list, dict)) or image_id not in listed:
        raise DatasetError(f"{place} has image_id={image_id!r}, which no entry of 'images' has.")
    return image_id


def _require_files(dicts: list[DatasetDict], keys: tuple[str, ...], path: str) -> None:
    missing = [entry[key] for entry in dicts for key in keys if not os.path.isfile(entry[key])]
    if missing:
        raise MissingFileError(
            f"{len(missing)} of the files that {path} names aren't there, or are no regular files, "
            f"such as {os.path.abspath(missing[0])}. "
            "Check the folders the dataset was registered with, or fetch the files."
        )


def _color(value: Any) -> tuple[int, int, int] | None:
    """The colour if it is one, as red, green, blue."""
    if (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(part, int) and 0 <= part <= 255 for part in value)
    ):
        return value[0], value[1], value[2]
    return None
