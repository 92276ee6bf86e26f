"""Panoptic quality as tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from detr_d2.evaluation.bootstrap import Intervals
from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality
from detr_d2.wording import counted


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
        f"\n{absent} of {counted(len(names), 'class', 'classes')} {are} neither in these pictures nor predicted."
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
