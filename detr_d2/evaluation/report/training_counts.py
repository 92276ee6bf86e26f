"""How many segments of each class the training had, where its dataset can still be read."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from detr_d2.data import categories_of, register_from_config
from detr_d2.data.categories import Category
from detr_d2.errors import UserError
from detr_d2.yaml_files import parse_yaml

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

logger = logging.getLogger(__name__)


def training_segments(config: str, categories: Sequence[Category]) -> list[int] | None:
    """Segments of each class in the datasets of ``DATASETS.TRAIN``, crowds left out.

    Args:
        config: of the run, as yaml.
        categories: that were evaluated, by contiguous class.

    Returns:
        By contiguous class; None where the config names no such dataset, it can't be read from here, or it has other
        categories.
    """
    try:
        cfg = CfgNode(parse_yaml(config, "config.yaml") or {})
        names = list(cfg.DATASETS.TRAIN)
        register_from_config(cfg)
        counts = [_segments(name, categories) for name in names]
    except (UserError, OSError, AttributeError, KeyError, TypeError, ValueError, AssertionError) as error:
        logger.info("The report has no counts of the training's segments: %s", error)
        return None
    return np.sum(counts, axis=0).tolist() if counts else None


def _segments(name: str, categories: Sequence[Category]) -> np.ndarray:
    if [c.name for c in categories_of(name)] != [c.name for c in categories]:
        raise ValueError(f"the dataset {name!r} has other categories than those that were evaluated")
    counts = np.zeros(len(categories), np.int64)
    for record in DatasetCatalog.get(name):
        for segment in record.get("segments_info", record.get("annotations", [])):
            counts[segment["category_id"]] += not segment.get("iscrowd", 0)
    return counts
