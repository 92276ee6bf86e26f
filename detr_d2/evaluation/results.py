"""What was measured, by the names that it has in ``metrics.json`` and ``panoptic_quality.json``; as CSV and tables."""

from __future__ import annotations

import csv
import io
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from detr_d2.data.categories import Category
from detr_d2.evaluation.bootstrap import Intervals
from detr_d2.evaluation.measures import PanopticMeasures
from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality
from detr_d2.wording import counted

_KEYS = ("PQ", "SQ", "RQ")
Results = dict[str, dict[str, float]]
#: The end of a group's names.
ENDINGS = {"All": "", "Things": "_th", "Stuff": "_st"}


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
        quality: of all images.
        categories: by contiguous class.
        intervals: go beside as ``PQ_interval`` and so on, lower and upper end in percent.
    """
    content: dict[str, Any] = {}
    for name, mean in group_means(quality, [category.is_thing for category in categories]).items():
        ends = None if intervals is None else intervals.groups[name]
        content[name] = {**_percents(mean), "N": mean.n, **_intervals(ends)}
    content["classes"] = []
    for label, category in enumerate(categories):
        ends = None if intervals is None else intervals.classes[label]
        about = {"id": category.id, "name": category.name, "is_thing": category.is_thing}
        counts = _counts(quality, label)
        content["classes"].append({**about, **_percents(quality.of_class(label)), **counts, **_intervals(ends)})
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


def _percents(quality: Quality) -> dict[str, float | None]:
    values = zip(_KEYS, (quality.pq, quality.sq, quality.rq))
    return {key: percent(value) for key, value in values}


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
        entry["PQ_dagger"] = percent(measures.dagger(label).pq)
        entry |= {"IoU": percent(ious[label]), "accuracy": percent(accuracies[label])}
    groups = ("All", "Things", "Stuff")
    if intervals is not None:
        content["intervals"] = {"resamples": intervals.resamples, "confidence": intervals.confidence}
    if boundary:
        content["boundary"] = {group: boundary[group] for group in groups}
    content["sizes"] = {size: {group: other[group] for group in groups} for size, other in sizes.items()}
    content["dagger"] = {
        group: percent(measures.mean_dagger(labels)) for group, labels in group_labels(measures.is_thing).items()
    }
    content["semantic"] = {name: percent(value) for name, value in measures.semantic().items()}
    return content


def _quality(quality: PanopticQuality, is_thing: Sequence[bool]) -> dict[str, float]:
    means = group_means(quality, is_thing)
    return {key + ENDINGS[group]: 100 * getattr(mean, key.lower()) for group, mean in means.items() for key in _KEYS}


def percent(value: float) -> float | None:
    """A part of 1 in percent, for JSON, which has no NaN."""
    return None if math.isnan(value) else 100 * float(value)


def quality_table(groups: Mapping[str, Quality], intervals: Intervals | None = None) -> str:
    """One row a group (All, Things, Stuff): PQ, SQ, RQ in percent, and N, the number of classes they are means of.

    With ``intervals``, a column has the interval of PQ.
    """
    rows = [[name, *_percent(q), q.n] for name, q in groups.items()]
    headers = ["", "PQ", "SQ", "RQ", "N"]
    if intervals is not None:
        headers.append(_interval_header(intervals))
        for row in rows:
            row.append(_ends(intervals.groups[str(row[0])][0]))
    return _table(rows, headers)


def class_table(
    quality: PanopticQuality, names: Sequence[str], is_thing: Sequence[bool], intervals: Intervals | None = None
) -> str:
    """One row a class that is in the ground truth or was predicted; absent classes are counted in the last line.

    With ``intervals``, a column has the interval of PQ.
    """
    headers = ["class", "kind", "PQ", "SQ", "RQ", "found", "wrong", "missed"]
    if intervals is not None:
        headers.append(_interval_header(intervals))
    rows: list[Sequence[Any]] = []
    for label, name in enumerate(names):
        of_class = quality.of_class(label)
        counts = (quality.true_positives, quality.false_positives, quality.false_negatives)
        if of_class.n:
            kind = "thing" if is_thing[label] else "stuff"
            ends = [] if intervals is None else [_ends(intervals.classes[label, 0])]
            rows.append((name, kind, *_percent(of_class), *(int(count[label]) for count in counts), *ends))
    absent = len(names) - len(rows)
    are = "is" if absent == 1 else "are"
    note = (
        f"\n{absent} of {counted(len(names), 'class', 'classes')} {are} neither in these images nor predicted."
        if absent
        else ""
    )
    return _table(rows, headers) + note


def measures_table(results: Mapping[str, Mapping[str, float]]) -> str:
    """All, Things and Stuff of what is measured beside panoptic quality, in percent, and mIoU.

    Args:
        results: as :func:`detr_d2.evaluation.results.evaluation_results` gives them.
    """
    named = [("Boundary PQ", "panoptic_boundary", "PQ"), ("PQ†", "panoptic_dagger", "PQ")]
    named += [(f"PQ of {size} segments", "panoptic_size", f"PQ_{size}") for size in ("small", "medium", "large")]
    rows: list[Sequence[Any]] = [
        [title, *(results[task][key + ending] for ending in ("", "_th", "_st"))]
        for title, task, key in named
        if task in results
    ]
    return _table([*rows, ["mIoU", results["sem_seg"]["mIoU"]]], ["", "All", "Things", "Stuff"])


def _interval_header(intervals: Intervals) -> str:
    return f"PQ, {100 * intervals.confidence:g} %"


def _ends(interval: np.ndarray) -> str:
    """Lower and upper end in percent."""
    low, high = 100 * interval
    return "-" if np.isnan(low) else f"{low:.1f} to {high:.1f}"


def _percent(quality: Quality) -> tuple[float, float, float]:
    return 100 * quality.pq, 100 * quality.sq, 100 * quality.rq


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=".1f", missingval="-")
