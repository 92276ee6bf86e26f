"""Panoptic quality as numbers for files: JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.evaluation.bootstrap import Intervals
from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality

_KEYS = ("PQ", "SQ", "RQ")


def group_labels(is_thing: Sequence[bool]) -> dict[str, list[int]]:
    """The classes of All, Things and Stuff."""
    return {
        "All": list(range(len(is_thing))),
        "Things": [label for label, flag in enumerate(is_thing) if flag],
        "Stuff": [label for label, flag in enumerate(is_thing) if not flag],
    }


def group_means(quality: PanopticQuality, is_thing: Sequence[bool]) -> dict[str, Quality]:
    """The means over All, Things and Stuff."""
    return {name: quality.average(labels) for name, labels in group_labels(is_thing).items()}


def quality_as_json(
    quality: PanopticQuality, categories: Sequence[Category], intervals: Intervals | None = None
) -> dict[str, Any]:
    """All, Things, Stuff and each class in percent; null (JSON has no NaN) where there is nothing to judge.

    Args:
        quality: of all pictures.
        categories: by contiguous class.
        intervals: go beside as ``PQ_interval`` and so on, lower and upper end in percent.
    """
    content: dict[str, Any] = {}
    for name, mean in group_means(quality, [category.is_thing for category in categories]).items():
        ends = None if intervals is None else intervals.groups[name]
        content[name] = {**_percent(mean), "N": mean.n, **_intervals(ends)}
    content["classes"] = []
    for label, category in enumerate(categories):
        ends = None if intervals is None else intervals.classes[label]
        about = {"id": category.id, "name": category.name, "is_thing": category.is_thing}
        counts = _counts(quality, label)
        content["classes"].append({**about, **_percent(quality.of_class(label)), **counts, **_intervals(ends)})
    return content


def quality_as_csv(content: dict[str, Any]) -> str:
    """A line for each class of :func:`quality_as_json`; what is null there is empty."""
    output = io.StringIO()
    rows = []
    for entry in content["classes"]:
        row = {key: value for key, value in entry.items() if not key.endswith("_interval")}
        for key in _KEYS:
            if f"{key}_interval" in entry:
                row[f"{key}_low"], row[f"{key}_high"] = entry[f"{key}_interval"] or (None, None)
        rows.append(row)
    writer = csv.DictWriter(output, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return output.getvalue()


def _percent(quality: Quality) -> dict[str, float | None]:
    values = zip(_KEYS, (quality.pq, quality.sq, quality.rq))
    return {key: None if math.isnan(value) else 100 * value for key, value in values}


def _counts(quality: PanopticQuality, label: int) -> dict[str, int]:
    return {
        "true_positives": int(quality.true_positives[label]),
        "false_positives": int(quality.false_positives[label]),
        "false_negatives": int(quality.false_negatives[label]),
    }


def _intervals(ends: np.ndarray | None) -> dict[str, list[float] | None]:
    """Lower and upper ends, (3, 2), in percent; None where there is nothing to judge."""
    if ends is None:
        return {}
    return {
        f"{key}_interval": None if np.isnan(pair).any() else (100 * pair).tolist() for key, pair in zip(_KEYS, ends)
    }
