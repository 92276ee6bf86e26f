"""COCO's JSON files as Detectron2's dataset dicts; the first thing that a rule calls an error is raised."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from detr_d2.labels.rules.categories import Categories
from detr_d2.labels.rules.json_files import list_of, read_json, without_collector
from detr_d2.labels.rules.rule import raise_errors
from detr_d2.labels.values import color_of

from ..errors import DatasetError, MissingFileError
from .categories import Category, contiguous_order, distinct_colors
from .registration import DatasetEntry

if TYPE_CHECKING:
    from detr_d2.labels.rules.document import Document

logger = logging.getLogger(__name__)

DatasetDict = dict[str, Any]
#: Contiguous id of each dataset id, and whether it is a thing.
Contiguous = Mapping[int, tuple[int, bool]]


@without_collector()
def read_dataset(entry: DatasetEntry, box_mode: int = 1) -> tuple[list[DatasetDict], list[Category]]:
    """A dataset's dicts, one an image, and its categories by contiguous id.

    Args:
        entry: of the dataset.
        box_mode: what to call boxes of x, y, width and height: Detectron2's ``BoxMode.XYWH_ABS``, whose value is 1.

    Raises:
        MissingFileError, DatasetError: files aren't there, or make no sense.
    """
    path = entry.main_json
    content = _read(entry, path)
    ordered = contiguous_order(_categories(entry, content, path))
    contiguous = {category.id: (number, category.is_thing) for number, category in enumerate(ordered)}
    for folder in filter(None, (entry.images, entry.panoptic_root)):
        if not os.path.isdir(folder):
            raise MissingFileError(f"dataset {entry.name!r}: the folder {folder} isn't there. {entry.advice}")
    if entry.panoptic_json:
        dicts = panoptic_dicts(content, path, entry.images, entry.panoptic_root, contiguous)
    else:
        dicts = instances_dicts(content, path, entry.images, contiguous, box_mode)
    if not dicts:
        raise DatasetError(f"dataset {entry.name!r}: {path} has no annotated image.")
    logger.info("%s: %d images from %s", entry.name, len(dicts), path)
    return dicts, ordered


def read_dataset_categories(entry: DatasetEntry) -> list[Category]:
    """A dataset's categories by contiguous id, from its JSON unless they are known; raises as :func:`read_dataset`."""
    if entry.categories:
        return contiguous_order(entry.categories)
    path = entry.main_json
    return contiguous_order(_categories(entry, _read(entry, path), path))


def _read(entry: DatasetEntry, path: str) -> dict[str, Any]:
    if not os.path.exists(path):
        raise MissingFileError(f"dataset {entry.name!r}: its annotations aren't at {path}. {entry.advice}")
    return read_json(path)


def _categories(entry: DatasetEntry, content: dict[str, Any], path: str) -> tuple[Category, ...]:
    """The file's categories, in the colours known beforehand if there are any; they must be the same as those."""
    found = read_categories(content, path, all_things=not entry.panoptic_json)
    if not entry.categories:
        return tuple(found)
    known = {(category.id, category.name, category.is_thing) for category in entry.categories}
    differing = [category for category in found if (category.id, category.name, category.is_thing) not in known]
    if differing or len(found) != len(known):
        example = f", such as {differing[0].id} {differing[0].name!r}" if differing else ""
        raise DatasetError(
            f"dataset {entry.name!r} stands for {len(known)} known categories, but {path} has {len(found)}, "
            f"{len(differing)} of them others{example}. Register the file under a name of its own."
        )
    return entry.categories


def read_categories(content: dict[str, Any], path: str, all_things: bool = False) -> list[Category]:
    """The categories of a COCO file, in its order.

    Args:
        content, path: of the file.
        all_things: a file of COCO instances: everything is a thing, and ``isthing`` may be absent.

    Raises:
        DatasetError: an id or a name is missing, wrong or there twice, or ``isthing`` isn't 0 or 1.
    """
    entries = list_of(content, "categories", path)
    found = Categories(entries, path, with_isthing=not all_things)
    for number, entry in enumerate(entries):
        raise_errors(found.rules(entry, number))
        found.add(entry, number)
    raise_errors(found.final_rules())
    distinct = distinct_colors(len(entries)) if len(entries) <= 1000 else [(128, 128, 128)] * len(entries)
    colors = [color_of(entry.get("color")) or color for entry, color in zip(entries, distinct)]
    return [
        Category(entry["id"], entry["name"], all_things or bool(entry["isthing"]), color)
        for entry, color in zip(entries, colors)
    ]


def panoptic_dicts(
    content: dict[str, Any], path: str, images: str, panoptic_root: str, contiguous: Contiguous
) -> list[DatasetDict]:
    """One dict for each annotated image of a COCO panoptic file.

    Args:
        content, path: of the file.
        images, panoptic_root: folders of the images and of the panoptic PNGs.
        contiguous: dataset id to contiguous id and whether it is a thing.

    Raises:
        DatasetError: something is wrong with it, see :mod:`detr_d2.labels.rules`.
        MissingFileError: an image or a PNG isn't there.
    """
    document = checked_document(content, path, images, panoptic_root)
    dicts = [
        {
            **_described(document, image_id, images),
            "pan_seg_file_name": os.path.join(panoptic_root, found.annotation["file_name"]),
            "segments_info": [_segment(segment, contiguous) for segment in found.labels],
        }
        for image_id, found in document.labels.items()
        if found.annotation is not None
    ]
    _report_crowds((segment for entry in dicts for segment in entry["segments_info"]), path)
    without = len(document.images.entries) - len(dicts)
    if without:
        logger.warning("%s: %d images have no annotation and are left out.", path, without)
    return dicts


def instances_dicts(
    content: dict[str, Any], path: str, images: str, contiguous: Contiguous, box_mode: int
) -> list[DatasetDict]:
    """One dict for each image of a COCO instances file, its objects under ``annotations`` as Detectron2 has them.

    Boxes without an area are left out and counted in the log. Segmentations without a polygon or a run are left out,
    and their boxes stay.

    Args:
        content, path, images, contiguous: as for :func:`panoptic_dicts`.
        box_mode: what to call x, y, width, height: ``BoxMode.XYWH_ABS``.

    Raises:
        DatasetError, MissingFileError: as :func:`panoptic_dicts`.
    """
    document = checked_document(content, path, images, None)
    dicts: list[DatasetDict] = []
    objects = flat = 0
    for image_id in document.images.entries:
        described = _described(document, image_id, images)
        labels = document.labels[image_id].labels if image_id in document.labels else []
        kept = [label for label in labels if min(label["bbox"][2:]) > 0]
        described["annotations"] = [_instance(label, contiguous, described, box_mode) for label in kept]
        objects, flat = objects + len(labels), flat + len(labels) - len(kept)
        dicts.append(described)
    if flat:
        logger.warning("%s: %d boxes without an area are left out.", path, flat)
    _report_crowds((instance for entry in dicts for instance in entry["annotations"]), path)
    return dicts


def checked_document(
    content: dict[str, Any], path: str, images: str | None = None, panoptic_root: str | None = None
) -> Document:
    """What is in a file that has no errors, but for those that cost an object or its mask, and no more.

    Args:
        content, path: of the file.
        images: the folder of its images; None: it isn't looked at.
        panoptic_root: the folder of its PNGs; None: a file of COCO instances.

    Raises:
        DatasetError, MissingFileError: the first thing that a rule calls an error, or it is a file of the other kind.
    """
    from detr_d2.labels.rules.document import walk_document  # with what draws polygons, which categories don't need
    from detr_d2.labels.rules.rule import raise_first

    walk = walk_document(content, path, images, panoptic_root)
    document = raise_first(walk, ("box-empty", "crowd-only", "mask-empty", "polygon-points"))
    if document is None or document.is_panoptic != (panoptic_root is not None):
        found, wanted = ("panoptic segments", "boxes") if panoptic_root is None else ("boxes", "panoptic segments")
        raise DatasetError(f"{path} has {found} ('segments_info' or 'bbox'); it is registered as a file of {wanted}.")
    return document


def _described(document: Document, image_id: Any, images: str) -> DatasetDict:
    """What a dict says of an image, whatever is labelled on it."""
    entry = document.images.entries[image_id]
    file_name = os.path.join(images, entry["file_name"])
    return {"file_name": file_name, "image_id": image_id, "height": entry["height"], "width": entry["width"]}


def _segment(segment: DatasetDict, contiguous: Contiguous) -> DatasetDict:
    category_id, is_thing = contiguous[segment["category_id"]]
    info = {"id": segment["id"], "category_id": category_id, "isthing": is_thing, "iscrowd": segment.get("iscrowd", 0)}
    return {**info, **{key: segment[key] for key in ("area", "bbox") if key in segment}}


def _instance(label: DatasetDict, contiguous: Contiguous, image: DatasetDict, box_mode: int) -> DatasetDict:
    instance: DatasetDict = {
        "bbox": [float(side) for side in label["bbox"]],
        "bbox_mode": box_mode,
        "category_id": contiguous[label["category_id"]][0],
        "iscrowd": label.get("iscrowd", 0),
    }
    segmentation = _segmentation(label.get("segmentation"), image)
    return {**instance, "segmentation": segmentation} if segmentation else instance


def _segmentation(value: Any, image: DatasetDict) -> Any:
    """Polygons, or run lengths in pycocotools' compressed form; None where there is nothing."""
    if isinstance(value, list):
        return [polygon for polygon in value if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if value and isinstance(value["counts"], list):
        from pycocotools import mask as coco_mask  # few files need it

        return coco_mask.frPyObjects(value, image["height"], image["width"])
    return value or None


def _report_crowds(entries: Iterable[DatasetDict], path: str) -> None:
    flags: Sequence[int] = [entry["iscrowd"] for entry in entries]
    if any(flags):
        logger.info("%s: %d of %d are crowds (iscrowd: 1), which aren't trained on.", path, sum(flags), len(flags))
