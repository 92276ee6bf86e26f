"""Panoptic quality as tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality


def quality_table(groups: Mapping[str, Quality]) -> str:
    """One row a group (All, Things, Stuff): PQ, SQ, RQ in percent, and N, the number of classes they are means of."""
    return _table([(name, *_percent(q), q.n) for name, q in groups.items()], ["", "PQ", "SQ", "RQ", "N"])


def class_table(quality: PanopticQuality, names: Sequence[str], is_thing: Sequence[bool]) -> str:
    """One row a class that is in the truth or was predicted; absent classes are counted in the last line."""
    headers = ["class", "kind", "PQ", "SQ", "RQ", "found", "wrong", "missed"]
    rows: list[Sequence[Any]] = []
    for label, name in enumerate(names):
        of_class = quality.of_class(label)
        counts = (quality.true_positives, quality.false_positives, quality.false_negatives)
        if of_class.n:
            kind = "thing" if is_thing[label] else "stuff"
            rows.append((name, kind, *_percent(of_class), *(int(count[label]) for count in counts)))
    absent = len(names) - len(rows)
    note = f"\n{absent} of {len(names)} classes are neither in these pictures nor predicted." if absent else ""
    return _table(rows, headers) + note


def _percent(quality: Quality) -> tuple[float, float, float]:
    return 100 * quality.pq, 100 * quality.sq, 100 * quality.rq


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=".1f", missingval="-")
