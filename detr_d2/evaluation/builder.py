"""Which evaluators a config and a dataset ask for."""

from __future__ import annotations

import logging
import os

from detr_d2.config import check_values
from detr_d2.data import Category, categories_of, dataset_metadata
from detr_d2.data.catalogs import instances_file
from detr_d2.errors import ConfigError
from detr_d2.evaluation.box_ground_truth import (
    check_instances,
    has_masks,
    register_box_metadata,
    without_byte_order_mark,
    write_things,
)
from detr_d2.evaluation.panoptic_evaluator import DetrPanopticEvaluator

from detectron2.config import CfgNode
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
        DatasetError, MissingFileError: the dataset is unknown, or its files aren't there.
    """
    check_values(cfg, "TEST.")
    metadata = dataset_metadata(dataset_name)
    evaluators: list[DatasetEvaluator] = []
    if cfg.MODEL.DETR.MASK_ON and cfg.MODEL.DETR.PANOPTIC_ON and metadata.get("panoptic_json"):
        evaluators.append(_panoptic_evaluator(cfg, dataset_name, output_folder))
    if cfg.MODEL.DETR.INSTANCE_ON and metadata.thing_dataset_id_to_contiguous_id:
        with_masks = cfg.MODEL.DETR.MASK_ON and cfg.TEST.MASK_AP
        evaluators.append(_instance_evaluator(dataset_name, instances_file(dataset_name), output_folder, with_masks))
    if not evaluators:
        raise ConfigError(
            f"nothing to evaluate on {dataset_name!r}: box AP needs MODEL.DETR.INSTANCE_ON and a dataset with things, "
            "panoptic quality MODEL.DETR.MASK_ON, PANOPTIC_ON and a dataset with a panoptic_json."
        )
    return DatasetEvaluators(evaluators)


def _panoptic_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    kind, keys = cfg.TEST.PANOPTIC_EVALUATOR, cfg.TEST
    if kind == "detr_d2":
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


def _instance_evaluator(dataset_name: str, json_file: str, output_folder: str, with_masks: bool) -> DatasetEvaluator:
    """Box and mask AP with the dataset's own instances file, or with one made of its panoptic ground truth."""
    categories = categories_of(dataset_name)
    if not json_file:
        json_file = os.path.join(output_folder, f"{dataset_name}_things.json")
        if comm.is_main_process():
            _write_things_once(dataset_name, categories, json_file, with_masks)
        comm.synchronize()
    else:
        check_instances(json_file)
        if with_masks and not has_masks(json_file):
            logger.warning("%s has annotations without a mask: there is no mask AP, only box AP.", json_file)
            with_masks = False
    json_file = without_byte_order_mark(json_file, os.path.join(output_folder, f"{dataset_name}_instances.json"))
    name = register_box_metadata(dataset_name, categories, json_file)
    return COCOEvaluator(name, tasks=("bbox", "segm") if with_masks else ("bbox",), output_dir=output_folder)


def _write_things_once(dataset_name: str, categories: list[Category], json_file: str, with_masks: bool) -> None:
    """Written once in a training: the second evaluation takes the first one's file."""
    written = os.path.abspath(json_file), with_masks
    if _THINGS_WRITTEN.get(dataset_name) == written and os.path.isfile(json_file):
        return
    write_things(dataset_name, categories, json_file, with_masks)
    logger.info("%s has no instances file; its things went into %s for AP.", dataset_name, json_file)
    _THINGS_WRITTEN[dataset_name] = written
