"""From the numbers of a report to its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detr_d2.pages import write_page

_TEMPLATE = Path(__file__).parent / "templates" / "report.html"
#: Most classes in the matrix of confusions.
MATRIX_CLASSES = 18

#: What each kind of mistake is called, and is.
KIND_TEXTS = {
    "wrong_class": ("wrong class", "cut right (IoU above 0.5), but called something else"),
    "split": ("split", "two or more predicted segments that together would be right for one true one"),
    "merged": ("merged", "one predicted segment over several true ones of its class"),
    "poorly_cut": ("poorly cut", "the right class at the right place, but an IoU of 0.5 or less"),
    "duplicate": ("duplicate", "a further segment on an object that another one stands for already"),
    "on_void": ("on void", "predicted with its largest part where nobody labelled anything"),
    "made_up": ("made up", "predicted over other things, with nothing of its class to match"),
    "missed": ("missed", "a true segment with no predicted one of its class that could be meant for it"),
    "loose_borders": ("loose borders", "found, with an IoU between 0.5 and 1: what SQ lacks"),
}


def write_report_page(
    path: Path,
    content: Mapping[str, Any],
    pictures: Mapping[str, Sequence[Mapping[str, Any]]],
    examples: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Path:
    """Writes ``report.html``.

    Args:
        path: of the file.
        content: the report's numbers, as in ``report.json``.
        pictures: the worst and the best, drawn.
        examples: of each kind of mistake, drawn.
    """
    classes = [_with_worst_kind(entry) for entry in content["classes"]]
    gains = [entry["gives_back"]["All"] or 0.0 for entry in content["mistakes"]]
    context = {
        **content,
        "title": f"Evaluation on {content['dataset']}",
        "groups": {name: {"PQ_interval": None, **content[name]} for name in ("All", "Things", "Stuff")},
        "kinds": {kind: {"name": name, "meaning": meaning} for kind, (name, meaning) in KIND_TEXTS.items()},
        "classes": classes,
        "worst_first": sorted(classes, key=lambda entry: (entry["PQ"] is None, entry["PQ"] or 0.0)),
        "shown_rows": {one["row"] for shown in pictures.values() for one in shown},
        "best_first": {"things": _best_first(classes, True), "stuff": _best_first(classes, False)},
        "absent": [entry["name"] for entry in classes if entry["PQ"] is None],
        "largest_gain": max(gains, default=0.0),
        "matrix": confusion_matrix(content),
        "pictures": pictures,
        "examples": {kind: examples[kind] for kind in _by_gain(content) if examples.get(kind)},
    }
    context["mistakes"] = sorted(content["mistakes"], key=lambda entry: -(entry["gives_back"]["All"] or 0.0))
    return write_page(path, _TEMPLATE, **context)


def confusion_matrix(content: Mapping[str, Any], most: int = MATRIX_CLASSES) -> dict[str, Any]:
    """The classes with the most confusions, as a table.

    Returns:
        "names", "is_part" (some classes with confusions are left out), "rows", each with "name", "of" (true segments),
        "cells" (count, right, name, part of the true segments) and "rest": not found otherwise.
    """
    pairs = {(c["true_class"], c["predicted_class"]): c["count"] for c in content["confusions"]}
    times = np.zeros(len(content["classes"]), np.int64)
    for (true, predicted), count in pairs.items():
        times[true] += count
        times[predicted] += count
    busy = sorted(np.flatnonzero(times).tolist(), key=lambda label: (-times[label], label))
    shown = sorted(busy[:most])
    classes = content["classes"]
    rows = []
    for true in shown:
        of = max(classes[true]["true_segments"], 1)
        counts = {other: pairs.get((true, other), 0) for other in shown} | {true: classes[true]["true_positives"]}
        cells = [
            {"count": count, "right": other == true, "name": classes[other]["name"], "part": count / of}
            for other, count in counts.items()
        ]
        elsewhere = sum(count for (label, _), count in pairs.items() if label == true)
        rest = classes[true]["false_negatives"] - elsewhere
        rows.append({"name": classes[true]["name"], "of": classes[true]["true_segments"], "cells": cells, "rest": rest})
    return {"names": [classes[label]["name"] for label in shown], "rows": rows, "is_part": len(busy) > len(shown)}


def _with_worst_kind(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A class with the kind of mistake that costs it most; SQ says already what loose borders cost."""
    gains = {kind: gain or 0.0 for kind, gain in entry["gives_back"].items() if kind != "loose_borders"}
    kind, gain = max(gains.items(), key=lambda item: item[1])
    return {"PQ_interval": None, **entry, "worst_kind": kind if gain else None, "worst_gain": gain if gain else 0.0}


def _best_first(classes: Sequence[Mapping[str, Any]], is_thing: bool) -> list[Mapping[str, Any]]:
    entries = [entry for entry in classes if entry["is_thing"] == is_thing and entry["PQ"] is not None]
    return sorted(entries, key=lambda entry: -entry["PQ"])


def _by_gain(content: Mapping[str, Any]) -> list[str]:
    return [m["kind"] for m in sorted(content["mistakes"], key=lambda entry: -(entry["gives_back"]["All"] or 0.0))]
