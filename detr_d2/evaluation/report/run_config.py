"""What the report has to know of a run's config: its settings, and how much of each class its training had."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from detr_d2.data.categories import Category
from detr_d2.data.coco_json import read_dataset
from detr_d2.data.registration import entry_of, register_entries
from detr_d2.errors import UserError
from detr_d2.labels.values import is_number
from detr_d2.plain_yaml import parse_yaml

logger = logging.getLogger(__name__)

_KEYS = {
    "score_threshold": ("MODEL", "DETR", "SCORE_THRESHOLD"),
    "overlap_threshold": ("MODEL", "DETR", "OVERLAP_THRESHOLD"),
    "mask_stride": ("INPUT", "MASK_STRIDE"),
}


def run_settings(config: str) -> dict[str, float | None]:
    """Settings out of a run's config; None where it doesn't say.

    Args:
        config: of ``run.json``, as yaml; any text is passed over.

    Returns:
        "score_threshold", the lowest of all classes', "overlap_threshold" and "mask_stride".
    """
    try:
        content = yaml.safe_load(config)
    except (yaml.YAMLError, RecursionError, ValueError):
        content = None
    settings = {name: _number(_entry(content, path)) for name, path in _KEYS.items()}
    of_classes = _entry(content, ("MODEL", "DETR", "CLASS_SCORE_THRESHOLDS"))
    known = [_number(value) for value in of_classes] if isinstance(of_classes, list) else []
    if known and None not in known:
        settings["score_threshold"] = min(value for value in known if value is not None)
    return settings


def _entry(content: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _number(value: Any) -> float | None:
    return value if is_number(value) and value >= 0 else None


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
