"""What was measured, by the names that it has in ``metrics.json`` and ``panoptic_quality.json``."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from detr_d2.data.categories import Category
from detr_d2.evaluation.bootstrap import Intervals
from detr_d2.evaluation.measures import PanopticMeasures
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.results import group_labels, group_means, quality_as_json

Results = dict[str, dict[str, float]]
#: The end of a group's names.
ENDINGS = {"All": "", "Things": "_th", "Stuff": "_st"}
_KEYS = ("PQ", "SQ", "RQ")


def evaluation_results(measures: PanopticMeasures, intervals: Intervals | None) -> Results:
    """Results by task, in percent; NaN where there is nothing to judge.

    Returns:
        "panoptic_seg": PQ, SQ, RQ, and the same with _th and _st, as Detectron2's evaluator has them; with intervals
        "panoptic_interval": PQ_low, PQ_high and so on; with boundaries "panoptic_boundary": as panoptic_seg;
        "panoptic_size": PQ_small, PQ_medium, PQ_large and so on; "panoptic_dagger": PQ, PQ_th, PQ_st; "sem_seg": mIoU,
        fwIoU, mACC, pACC, as Detectron2's.
    """
    results: Results = OrderedDict(panoptic_seg=_quality(measures.quality, measures.is_thing))
    groups = group_labels(measures.is_thing)
    if intervals is not None:
        results["panoptic_interval"] = {
            f"PQ{ENDINGS[group]}_{end}": 100 * float(ends[0, place])
            for group, ends in intervals.groups.items()
            for place, end in enumerate(("low", "high"))
        }
    if measures.has_boundaries:
        results["panoptic_boundary"] = _quality(measures.boundary, measures.is_thing)
    results["panoptic_size"] = {
        f"PQ_{size}{ENDINGS[group]}": 100 * mean.pq
        for size, quality in measures.of_size.items()
        for group, mean in group_means(quality, measures.is_thing).items()
    }
    results["panoptic_dagger"] = {
        f"PQ{ENDINGS[group]}": 100 * measures.mean_dagger(labels) for group, labels in groups.items()
    }
    results["sem_seg"] = {name: 100 * value for name, value in measures.semantic().items()}
    return results


def measures_as_json(
    measures: PanopticMeasures, categories: Sequence[Category], intervals: Intervals | None
) -> dict[str, Any]:
    """All of it for ``panoptic_quality.json``, each class as well; null where there is nothing to judge."""
    content = quality_as_json(measures.quality, categories, intervals)
    boundary = quality_as_json(measures.boundary, categories) if measures.has_boundaries else None
    sizes = {size: quality_as_json(quality, categories) for size, quality in measures.of_size.items()}
    ious, accuracies = measures.class_ious(), measures.class_accuracies()
    for label, entry in enumerate(content["classes"]):
        entry["boundary_PQ"] = boundary["classes"][label]["PQ"] if boundary else None
        entry |= {f"PQ_{size}": other["classes"][label]["PQ"] for size, other in sizes.items()}
        entry["PQ_dagger"] = _percent(measures.dagger(label).pq)
        entry |= {"IoU": _percent(ious[label]), "accuracy": _percent(accuracies[label])}
    groups = ("All", "Things", "Stuff")
    if intervals is not None:
        content["intervals"] = {"resamples": intervals.resamples, "confidence": intervals.confidence}
    if boundary:
        content["boundary"] = {group: boundary[group] for group in groups}
    content["sizes"] = {size: {group: other[group] for group in groups} for size, other in sizes.items()}
    content["dagger"] = {
        group: _percent(measures.mean_dagger(labels)) for group, labels in group_labels(measures.is_thing).items()
    }
    content["semantic"] = {name: _percent(value) for name, value in measures.semantic().items()}
    return content


def _quality(quality: PanopticQuality, is_thing: Sequence[bool]) -> dict[str, float]:
    means = group_means(quality, is_thing)
    return {key + ENDINGS[group]: 100 * getattr(mean, key.lower()) for group, mean in means.items() for key in _KEYS}


def _percent(value: float) -> float | None:
    return None if math.isnan(value) else 100 * float(value)
