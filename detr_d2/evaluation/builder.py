"""Which evaluators a config and a dataset ask for; and COCO instances ground truth for box and mask AP of any dataset.

Detectron2's ``COCOEvaluator`` expects the metadata's ``thing_classes`` to be the classes of the instances file, in the
order of their ids; this project's metadata lists stuff there as well, in the order of the panoptic file.
"""

from __future__ import annotations

import codecs
import functools
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pycocotools.mask as mask_coding

from detr_d2.config import check_values
from detr_d2.data import Category, categories_of, dataset_metadata, read_panoptic_png
from detr_d2.data.catalogs import instances_file
from detr_d2.data.coco_json import checked_document, read_categories
from detr_d2.errors import ConfigError
from detr_d2.evaluation.panoptic_evaluator import DetrPanopticEvaluator
from detr_d2.files import open_regular, write_text, write_whole
from detr_d2.labels.rules.json_files import read_json
from detr_d2.labels.run_lengths import compressed, encoded
from detr_d2.labels.values import is_number

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm

logger = logging.getLogger(__name__)

#: Datasets whose things this process has written: where to, and whether with masks.
_THINGS_WRITTEN: dict[str, tuple[str, bool]] = {}


def build_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluators:
    """Panoptic quality where the model has masks and the dataset panoptic ground truth; beside it AP of things.

    All processes have to call it.

    Args:
        cfg: ``MODEL.DETR.{MASK_ON, PANOPTIC_ON, INSTANCE_ON}`` say what the model returns,
            ``TEST.{PANOPTIC_EVALUATOR, PANOPTIC_PNG, BOUNDARY_PQ, BOOTSTRAP, MASK_AP}`` what is measured.
        dataset_name: a registered dataset.
        output_folder: gets the evaluators' files.

    Raises:
        ConfigError: nothing is left to evaluate, or the panoptic evaluator asked for isn't there.
        DatasetError, MissingFileError: the dataset is unknown, or its files aren't there, or have faults.
    """
    check_values(cfg, "TEST.")
    metadata, has_masks = dataset_metadata(dataset_name), cfg.MODEL.DETR.MASK_ON
    evaluators: list[DatasetEvaluator] = []
    if has_masks and cfg.MODEL.DETR.PANOPTIC_ON and metadata.get("panoptic_json"):
        evaluators.append(_panoptic_evaluator(cfg, dataset_name, output_folder))
    if cfg.MODEL.DETR.INSTANCE_ON and metadata.thing_dataset_id_to_contiguous_id:
        evaluators.append(_instance_evaluator(dataset_name, output_folder, has_masks and cfg.TEST.MASK_AP))
    if not evaluators:
        raise ConfigError(
            f"nothing to evaluate on {dataset_name!r}: box AP needs MODEL.DETR.INSTANCE_ON and a dataset with things, "
            "panoptic quality MODEL.DETR.MASK_ON, PANOPTIC_ON and a dataset with a panoptic_json."
        )
    return DatasetEvaluators(evaluators)


def _panoptic_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    keys = cfg.TEST
    if keys.PANOPTIC_EVALUATOR == "detr_d2":
        return DetrPanopticEvaluator(
            dataset_name,
            output_folder,
            boundaries=keys.BOUNDARY_PQ,
            resamples=keys.BOOTSTRAP,
            save_predictions=keys.PANOPTIC_PNG,
            cfg=cfg,
        )
    try:
        import panopticapi.evaluation  # noqa: F401  the evaluator imports it only when all images are done

        from detectron2.evaluation import COCOPanopticEvaluator  # type: ignore[attr-defined]
    except ImportError as error:
        raise ConfigError(
            f"TEST.PANOPTIC_EVALUATOR is 'coco', which needs Detectron2 and panopticapi ({error}). Install both, or "
            "use 'detr_d2', which gives the same numbers."
        ) from error
    evaluator: DatasetEvaluator = COCOPanopticEvaluator(dataset_name, output_folder)
    return evaluator


def _instance_evaluator(dataset_name: str, output_folder: str, with_masks: bool) -> DatasetEvaluator:
    """Box and mask AP with the dataset's own instances file, or with one made of its panoptic ground truth."""
    categories, json_file = categories_of(dataset_name), instances_file(dataset_name)
    if json_file:
        status = os.stat(json_file)
        names, all_masked = _look_at_instances(json_file, status.st_mtime_ns, status.st_size)
        if with_masks and not all_masked:
            logger.warning("%s has annotations without a mask: there is no mask AP, only box AP.", json_file)
            with_masks = False
        json_file = _without_byte_order_mark(json_file, os.path.join(output_folder, f"{dataset_name}_instances.json"))
    else:
        names = {category.id: category.name for category in categories if category.is_thing}
        json_file = os.path.join(output_folder, f"{dataset_name}_things.json")
        if comm.is_main_process():
            _write_things_once(dataset_name, categories, json_file, with_masks)
        comm.synchronize()
    name = f"{dataset_name}/boxes"
    MetadataCatalog.pop(name, None)
    MetadataCatalog.get(name).set(
        json_file=json_file,
        thing_classes=[names[dataset_id] for dataset_id in sorted(names)],
        thing_dataset_id_to_contiguous_id={c.id: label for label, c in enumerate(categories) if c.is_thing},
        evaluator_type="coco",
    )
    return COCOEvaluator(name, tasks=("bbox", "segm") if with_masks else ("bbox",), output_dir=output_folder)


@functools.lru_cache(maxsize=16)  # a training evaluates by one file again and again
def _look_at_instances(json_file: str, changed: int, size: int) -> tuple[dict[int, str], bool]:
    """Names by category id of a COCO instances file, and whether all annotations have a mask.

    The first thing in it that a rule calls an error is raised: pycocotools meets its faults only at the end.
    """
    content = read_json(json_file)
    checked_document(content, json_file)
    names = {category.id: category.name for category in read_categories(content, json_file, True)}
    return names, all(annotation.get("segmentation") for annotation in content["annotations"])


def _without_byte_order_mark(json_file: str, path: str) -> str:
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


def _write_things_once(dataset_name: str, categories: Iterable[Category], json_file: str, with_masks: bool) -> None:
    """Written once in a training: the second evaluation takes the first one's file."""
    written = os.path.abspath(json_file), with_masks
    if _THINGS_WRITTEN.get(dataset_name) == written and os.path.isfile(json_file):
        return
    content = things_as_coco(DatasetCatalog.get(dataset_name), categories, with_masks)
    write_text(json_file, json.dumps(content, allow_nan=False))
    logger.info("%s has no instances file; its things went into %s for AP.", dataset_name, json_file)
    _THINGS_WRITTEN[dataset_name] = written


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


def _shape_of(segment: Mapping[str, Any], ids: np.ndarray | None, with_mask: bool) -> dict[str, Any]:
    """Box, area and perhaps mask of a segment; ``ids`` is its map (H, W), where that is needed."""
    box, area, shape = segment.get("bbox"), segment.get("area"), {}
    if ids is not None:
        runs = encoded(ids == segment["id"])
        if not _has_box(segment):
            box, area = mask_coding.toBbox(runs).tolist(), int(mask_coding.area(runs))
        if with_mask:
            shape = {"segmentation": compressed(runs)}
    return {"bbox": [float(value) for value in box or ()], "area": float(area or 0), **shape}


def _has_box(segment: Mapping[str, Any]) -> bool:
    """Whether the file says a box and an area, and they are numbers."""
    box = segment.get("bbox")
    values = [*box, segment.get("area")] if isinstance(box, list) else []
    return len(values) == 5 and all(map(is_number, values))
