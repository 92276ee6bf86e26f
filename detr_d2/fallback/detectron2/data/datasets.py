"""An independently written subset of Detectron2's API; not Detectron2. Datasets in COCO's format."""

import contextlib
import io
import logging
import os
from typing import Any

import pycocotools.mask as coco_mask

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from .catalog import DatasetCatalog, MetadataCatalog


def register_coco_instances(name: str, metadata: dict[str, Any], json_file: str, image_root: str) -> None:
    """Register a dataset of COCO's instances format; its files are read when it is used."""
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata)


def load_coco_json(json_file: str, image_root: str, dataset_name: str) -> list[dict[str, Any]]:
    """One dict for each image, by ascending image id; category ids become 0..K-1 in their ascending order.

    The metadata of ``dataset_name`` gets ``thing_classes`` and ``thing_dataset_id_to_contiguous_id``.
    """
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(PathManager.get_local_path(json_file))
    classes = [coco.cats[category_id]["name"] for category_id in sorted(coco.cats)]
    contiguous = {category_id: index for index, category_id in enumerate(sorted(coco.cats))}
    MetadataCatalog.get(dataset_name).set(thing_classes=classes, thing_dataset_id_to_contiguous_id=contiguous)
    listed = len(coco.dataset.get("annotations", []))
    assert len(coco.anns) == listed, f"Annotation ids in '{json_file}' are not unique!"
    records = []
    for image_id, image in sorted(coco.imgs.items()):
        annotations = [_annotation(entry, contiguous) for entry in coco.imgToAnns.get(image_id, [])]
        record = {"file_name": os.path.join(image_root, image["file_name"]), "image_id": image_id}
        record.update(height=image["height"], width=image["width"])
        record["annotations"] = [entry for entry in annotations if entry.get("segmentation") != []]
        records.append(record)
    logging.getLogger(__name__).info(f"Loaded {len(records)} images in COCO format from {json_file}")
    return records


def _annotation(entry: dict[str, Any], contiguous: dict[int, int]) -> dict[str, Any]:
    """Detectron2's form of one annotation; a segmentation is [] if none of its polygons has three points."""
    category_id = entry["category_id"]
    if category_id not in contiguous:
        raise KeyError(f"Encountered category_id={category_id} but this id does not exist in 'categories' of the json.")
    result: dict[str, Any] = {name: entry[name] for name in ("iscrowd", "bbox") if name in entry}
    result.update(bbox_mode=BoxMode.XYWH_ABS, category_id=contiguous[category_id])
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, dict):
        is_compressed = not isinstance(segmentation["counts"], list)
        size = segmentation["size"]
        result["segmentation"] = segmentation if is_compressed else coco_mask.frPyObjects(segmentation, *size)
    elif segmentation:
        result["segmentation"] = [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]
    return result
