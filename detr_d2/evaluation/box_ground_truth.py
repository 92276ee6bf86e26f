"""COCO instances ground truth for box and mask AP, of any registered dataset.

Detectron2's ``COCOEvaluator`` expects the metadata's ``thing_classes`` to be the classes of the instances file, in the
order of their ids; this project's metadata lists stuff there as well, in the order of the panoptic file.
"""

from __future__ import annotations

import codecs
import functools
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pycocotools.mask as mask_coding

from detr_d2.data import Category, read_panoptic_png
from detr_d2.data.coco_json import checked_document, read_categories
from detr_d2.files import open_regular, write_text, write_whole
from detr_d2.labels.rules.json_files import list_of, read_json
from detr_d2.labels.values import is_number

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm


def things_as_coco(
    records: Iterable[Mapping[str, Any]], categories: Iterable[Category], with_masks: bool = False
) -> dict[str, Any]:
    """The things of a panoptic dataset as COCO instances, crowds included.

    Args:
        records: the dataset's dicts, with ``segments_info``.
        categories: of the dataset, by contiguous id.
        with_masks: masks as well, which are run lengths; every PNG is read for them.

    Returns:
        A COCO instances file's content; boxes are the panoptic file's, or the PNG's where it has none.
    """
    by_label = list(categories)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in records:
        images.append({key: record[key] for key in ("file_name", "height", "width")} | {"id": record["image_id"]})
        things = [s for s in record["segments_info"] if s["isthing"]]
        is_whole = all(map(_has_box, things))
        ids = None if is_whole and not (things and with_masks) else read_panoptic_png(record["pan_seg_file_name"])
        for segment in things:
            annotation = {
                "id": len(annotations) + 1,
                "image_id": record["image_id"],
                "category_id": by_label[segment["category_id"]].id,
                "iscrowd": int(segment.get("iscrowd", 0)),
            }
            annotations.append(annotation | _shape_of(segment, ids, with_masks))
    kinds = [{"id": category.id, "name": category.name} for category in by_label if category.is_thing]
    return {"info": {}, "images": images, "annotations": annotations, "categories": kinds}


def write_things(dataset_name: str, categories: Iterable[Category], path: str, with_masks: bool = False) -> None:
    """Write :func:`things_as_coco` of a registered dataset, whole or not at all."""
    content = things_as_coco(DatasetCatalog.get(dataset_name), categories, with_masks)
    write_text(path, json.dumps(content, allow_nan=False))


def check_instances(json_file: str) -> None:
    """Look at a COCO instances file that AP is to be computed by: pycocotools meets its faults only at the end.

    Raises:
        DatasetError, MissingFileError: the first thing in it that a rule calls an error.
    """
    status = os.stat(json_file)
    _check_instances(json_file, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)  # a training evaluates by one file again and again
def _check_instances(json_file: str, changed: int, size: int) -> None:
    checked_document(read_json(json_file), json_file)


def has_masks(json_file: str) -> bool:
    """Whether all annotations of a COCO instances file have a mask."""
    annotations = list_of(read_json(json_file), "annotations", json_file)
    return all(annotation.get("segmentation") for annotation in annotations)


def without_byte_order_mark(json_file: str, path: str) -> str:
    """A file that pycocotools reads: itself, or where it begins with a byte-order mark, a copy of it at ``path``.

    All processes have to call it; the main one writes.
    """
    with open_regular(json_file) as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            return json_file
        if comm.is_main_process():
            write_whole(path, lambda copy: shutil.copyfileobj(file, copy))
    comm.synchronize()
    return path


def register_box_metadata(dataset_name: str, categories: Iterable[Category], json_file: str) -> str:
    """Metadata as Detectron2's ``COCOEvaluator`` needs it.

    Returns:
        The name under which it is in the ``MetadataCatalog``.
    """
    names = {category.id: category.name for category in read_categories(read_json(json_file), json_file, True)}
    name = f"{dataset_name}/boxes"
    MetadataCatalog.pop(name, None)
    MetadataCatalog.get(name).set(
        json_file=json_file,
        thing_classes=[names[dataset_id] for dataset_id in sorted(names)],
        thing_dataset_id_to_contiguous_id={c.id: label for label, c in enumerate(categories) if c.is_thing},
        evaluator_type="coco",
    )
    return name


def _shape_of(segment: Mapping[str, Any], ids: np.ndarray | None, with_mask: bool) -> dict[str, Any]:
    """Box, area and perhaps mask of a segment; ``ids`` is its map (H, W), where that is needed."""
    box, area = segment.get("bbox"), segment.get("area")
    if ids is None:
        return {"bbox": [float(value) for value in box or ()], "area": float(area or 0)}
    runs = mask_coding.encode(np.asfortranarray(ids == segment["id"], dtype=np.uint8))
    if not _has_box(segment):
        box, area = mask_coding.toBbox(runs).tolist(), int(mask_coding.area(runs))
    shape = {"segmentation": {"size": runs["size"], "counts": runs["counts"].decode()}} if with_mask else {}
    return {"bbox": [float(value) for value in box or ()], "area": float(area or 0)} | shape


def _has_box(segment: Mapping[str, Any]) -> bool:
    """Whether the file says a box and an area, and they are numbers."""
    box = segment.get("bbox")
    values = [*box, segment.get("area")] if isinstance(box, list) else []
    return len(values) == 5 and all(map(is_number, values))
