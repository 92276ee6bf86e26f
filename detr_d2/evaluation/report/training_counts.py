"""How many segments of each class the training had, where its dataset can still be read."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.data.registration import entry_of, read_dataset
from detr_d2.data.registration_config import register_entries
from detr_d2.errors import UserError
from detr_d2.yaml_files import parse_yaml

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
        datasets = parse_yaml(config, "config.yaml")["DATASETS"]
        names = list(datasets["TRAIN"])
        register_entries(datasets.get("REGISTER") or ())
        counts = [_segments(name, categories) for name in names]
    except (UserError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        logger.info("The report has no counts of the training's segments: %s", error)
        return None
    return np.sum(counts, axis=0).tolist() if counts else None


def _segments(name: str, categories: Sequence[Category]) -> np.ndarray:
    records, known = _read(name)
    if [c.name for c in known] != [c.name for c in categories]:
        raise ValueError(f"the dataset {name!r} has other categories than those that were evaluated")
    counts = np.zeros(len(categories), np.int64)
    for record in records:
        for segment in record.get("segments_info", record.get("annotations", [])):
            counts[segment["category_id"]] += not segment.get("iscrowd", 0)
    return counts


def _read(name: str) -> tuple[list[dict[str, Any]], list[Category]]:
    """A dataset's dicts and categories; one of another program is known only where that has used Detectron2."""
    entry = entry_of(name)
    if entry is not None:
        return read_dataset(entry)
    if "detectron2.data" not in sys.modules:
        raise ValueError(f"there is no dataset {name!r}")
    from detr_d2.data.catalogs import categories_of

    from detectron2.data import DatasetCatalog

    return DatasetCatalog.get(name), categories_of(name)
