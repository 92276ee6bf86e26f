"""Which evaluators a config and a dataset ask for."""

from __future__ import annotations

import logging
import os

from detr_d2.data import categories_of, dataset_metadata
from detr_d2.errors import ConfigError
from detr_d2.evaluation.box_truth import register_box_metadata, write_things
from detr_d2.evaluation.panoptic_evaluator import DetrPanopticEvaluator

from detectron2.config import CfgNode
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm

logger = logging.getLogger(__name__)


def build_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluators:
    """Panoptic quality where the model has masks and the dataset panoptic truth; box AP of the things beside it.

    All processes have to call it.

    Args:
        cfg: ``MODEL.DETR.{MASK_ON, PANOPTIC_ON, INSTANCE_ON}`` say what the model returns,
            ``TEST.PANOPTIC_EVALUATOR`` who computes panoptic quality.
        dataset_name: a registered dataset.
        output_folder: gets the evaluators' files.

    Raises:
        ConfigError: nothing is left to evaluate, or the panoptic evaluator asked for isn't there.
        DatasetError, MissingFileError: the dataset is unknown, or its files aren't there.
    """
    metadata = dataset_metadata(dataset_name)
    evaluators: list[DatasetEvaluator] = []
    if cfg.MODEL.DETR.MASK_ON and cfg.MODEL.DETR.PANOPTIC_ON and metadata.get("panoptic_json"):
        evaluators.append(_panoptic_evaluator(cfg.TEST.PANOPTIC_EVALUATOR, dataset_name, output_folder))
    if cfg.MODEL.DETR.INSTANCE_ON and metadata.thing_dataset_id_to_contiguous_id:
        evaluators.append(_box_evaluator(dataset_name, metadata.get("json_file") or "", output_folder))
    if not evaluators:
        raise ConfigError(
            f"nothing to evaluate on {dataset_name!r}: box AP needs MODEL.DETR.INSTANCE_ON and a dataset with things, "
            "panoptic quality MODEL.DETR.MASK_ON, PANOPTIC_ON and a dataset with a panoptic_json."
        )
    return DatasetEvaluators(evaluators)


def _panoptic_evaluator(kind: str, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    if kind == "detr_d2":
        return DetrPanopticEvaluator(dataset_name, output_folder)
    if kind != "coco":
        raise ConfigError(f"TEST.PANOPTIC_EVALUATOR is {kind!r}; allowed are 'detr_d2' and 'coco'.")
    try:
        import panopticapi.evaluation  # noqa: F401  the evaluator imports it only when all pictures are done

        from detectron2.evaluation import COCOPanopticEvaluator  # type: ignore[attr-defined]
    except ImportError as error:
        raise ConfigError(
            f"TEST.PANOPTIC_EVALUATOR is 'coco', which needs Detectron2 and panopticapi ({error}). Install both, or "
            "use 'detr_d2', which gives the same numbers."
        ) from error
    evaluator: DatasetEvaluator = COCOPanopticEvaluator(dataset_name, output_folder)
    return evaluator


def _box_evaluator(dataset_name: str, json_file: str, output_folder: str) -> DatasetEvaluator:
    """Box AP with the dataset's own instances file, or with one made of its panoptic truth."""
    categories = categories_of(dataset_name)
    if not json_file:
        json_file = os.path.join(output_folder, f"{dataset_name}_things.json")
        if comm.is_main_process():
            write_things(dataset_name, categories, json_file)
            logger.info("%s has no instances file; its things went into %s for box AP.", dataset_name, json_file)
        comm.synchronize()
    name = register_box_metadata(dataset_name, categories, json_file)
    return COCOEvaluator(name, tasks=("bbox",), output_dir=output_folder)
