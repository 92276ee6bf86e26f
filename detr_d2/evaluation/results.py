"""What was measured, by the names that it has in ``metrics.json`` and ``panoptic_quality.json``; as CSV and tables.

The content of ``panoptic_quality.json`` is made first, and all else from it: percents, and null where there is nothing
to judge, as JSON has no NaN.
"""

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
#: What is counted of each class; names of :class:`PanopticQuality`.
COUNTS = ("true_positives", "false_positives", "false_negatives")
Results = dict[str, dict[str, float]]
#: The end of a group's names.
ENDINGS = {"All": "", "Things": "_th", "Stuff": "_st"}


def group_labels(is_thing: Sequence[bool]) -> dict[str, list[int]]:
    """The classes of All, Things and Stuff."""
    of_kind = [[label for label, flag in enumerate(is_thing) if flag == wanted] for wanted in (True, False)]
    return {"All": list(range(len(is_thing))), "Things": of_kind[0], "Stuff": of_kind[1]}


def group_means(quality: PanopticQuality, is_thing: Sequence[bool]) -> dict[str, Quality]:
    """The means over All, Things and Stuff."""
    return {name: quality.average(labels) for name, labels in group_labels(is_thing).items()}


def percent(value: float) -> float | None:
    """A part of 1 in percent, for JSON, which has no NaN."""
    return None if math.isnan(value) else 100 * float(value)


def percents(ends: np.ndarray) -> list[float] | None:
    """Lower and upper end in percent; None where there is nothing to judge."""
    return None if np.isnan(ends).any() else (100 * ends).tolist()


def quality_as_json(
    quality: PanopticQuality, categories: Sequence[Category], intervals: Intervals | None = None
) -> dict[str, Any]:
    """All, Things, Stuff and each class.

    Args:
        quality: of all images.
        categories: by contiguous class.
        intervals: go beside as ``PQ_interval`` and so on, lower and upper end; what they are under "intervals".
    """

    def entry(found: Quality, ends: np.ndarray | None) -> dict[str, Any]:
        values = {key: percent(getattr(found, key.lower())) for key in _KEYS}
        beside = {} if ends is None else {f"{key}_interval": percents(pair) for key, pair in zip(_KEYS, ends)}
        return values | beside

    content: dict[str, Any] = {
        name: entry(mean, None if intervals is None else intervals.groups[name]) | {"N": mean.n}
        for name, mean in group_means(quality, [category.is_thing for category in categories]).items()
    }
    content["classes"] = [
        {"id": category.id, "name": category.name, "is_thing": category.is_thing}
        | entry(quality.of_class(label), None if intervals is None else intervals.classes[label])
        | {key: int(getattr(quality, key)[label]) for key in COUNTS}
        for label, category in enumerate(categories)
    ]
    if intervals is not None:
        content["intervals"] = {"resamples": intervals.resamples, "confidence": intervals.confidence}
    return content


def measures_as_json(
    measures: PanopticMeasures, categories: Sequence[Category], intervals: Intervals | None
) -> dict[str, Any]:
    """All of it for ``panoptic_quality.json``, each class as well."""
    content = quality_as_json(measures.quality, categories, intervals)
    beside = {f"PQ_{size}": quality_as_json(quality, categories) for size, quality in measures.of_size.items()}
    if measures.has_boundaries:
        beside = {"boundary_PQ": quality_as_json(measures.boundary, categories), **beside}
        content["boundary"] = {group: beside["boundary_PQ"][group] for group in ENDINGS}
    ious, accuracies = measures.class_ious(), measures.class_accuracies()
    for label, entry in enumerate(content["classes"]):
        entry |= {"boundary_PQ": None} | {key: other["classes"][label]["PQ"] for key, other in beside.items()}
        entry["PQ_dagger"] = percent(measures.dagger(label).pq)
        entry |= {"IoU": percent(ious[label]), "accuracy": percent(accuracies[label])}
    content["sizes"] = {size: {group: beside[f"PQ_{size}"][group] for group in ENDINGS} for size in measures.of_size}
    content["dagger"] = {
        group: percent(measures.mean_dagger(labels)) for group, labels in group_labels(measures.is_thing).items()
    }
    content["semantic"] = {name: percent(value) for name, value in measures.semantic().items()}
    return content


def evaluation_results(content: Mapping[str, Any]) -> Results:
    """Results by task, in percent; NaN where there is nothing to judge.

    Args:
        content: of :func:`measures_as_json`.

    Returns:
        "panoptic_seg": PQ, SQ, RQ, and the same with _th and _st, as Detectron2's evaluator has them; with intervals
        "panoptic_interval": PQ_low, PQ_high and so on; with boundaries "panoptic_boundary": as panoptic_seg;
        "panoptic_size": PQ_small, PQ_medium, PQ_large and so on; "panoptic_dagger": PQ, PQ_th, PQ_st; "sem_seg": mIoU,
        fwIoU, mACC, pACC, as Detectron2's.
    """

    def of_groups(found: Mapping[str, Any]) -> dict[str, float | None]:
        return {key + end: found[group][key] for group, end in groups for key in _KEYS}

    groups = ENDINGS.items()
    results: dict[str, dict[str, float | None]] = OrderedDict(panoptic_seg=of_groups(content))
    if "intervals" in content:
        results["panoptic_interval"] = {
            f"PQ{end}_{side}": value
            for group, end in groups
            for side, value in zip(("low", "high"), content[group]["PQ_interval"] or (None, None))
        }
    if "boundary" in content:
        results["panoptic_boundary"] = of_groups(content["boundary"])
    results["panoptic_size"] = {
        f"PQ_{size}{end}": of_size[group]["PQ"] for size, of_size in content["sizes"].items() for group, end in groups
    }
    results["panoptic_dagger"] = {f"PQ{end}": content["dagger"][group] for group, end in groups}
    results["sem_seg"] = content["semantic"]
    return OrderedDict(
        (task, {name: _number(value) for name, value in found.items()}) for task, found in results.items()
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def quality_as_csv(content: Mapping[str, Any]) -> str:
    """A line for each class of :func:`quality_as_json`; what is null there is empty."""
    rows = []
    for entry in content["classes"]:
        row = {key: value for key, value in entry.items() if not key.endswith("_interval")}
        for key in _KEYS:
            if f"{key}_interval" in entry:
                row[f"{key}_low"], row[f"{key}_high"] = entry[f"{key}_interval"] or (None, None)
        rows.append(row)
    output = io.StringIO()
    writer = csv.DictWriter(output, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return output.getvalue()


def quality_table(content: Mapping[str, Any]) -> str:
    """One row a group: PQ, SQ, RQ, N (the number of classes they are means of) and perhaps the interval of PQ."""
    rows = [[group, *_values(content[group]), content[group]["N"], *_ends(content[group])] for group in ENDINGS]
    return pipe_table(rows, ["", *_KEYS, "N", *_ends_header(content)])


def class_table(content: Mapping[str, Any]) -> str:
    """One row a class that is in the ground truth or was predicted; absent classes are counted in the last line."""
    rows = [
        [entry["name"], "thing" if entry["is_thing"] else "stuff", *_values(entry)]
        + [*(entry[key] for key in COUNTS), *_ends(entry)]
        for entry in content["classes"]
        if entry["PQ"] is not None
    ]
    headers = ["class", "kind", *_KEYS, "found", "wrong", "missed", *_ends_header(content)]
    total, absent = len(content["classes"]), len(content["classes"]) - len(rows)
    are = "is" if absent == 1 else "are"
    note = f"\n{absent} of {counted(total, 'class', 'classes')} {are} neither in these images nor predicted."
    return pipe_table(rows, headers) + (note if absent else "")


def measures_table(results: Mapping[str, Mapping[str, float]]) -> str:
    """All, Things and Stuff of what is measured beside panoptic quality, and mIoU, of :func:`evaluation_results`."""
    named = [("Boundary PQ", "panoptic_boundary", "PQ"), ("PQ†", "panoptic_dagger", "PQ")]
    named += [(f"PQ of {size} segments", "panoptic_size", f"PQ_{size}") for size in ("small", "medium", "large")]
    rows = [
        [title, *(results[task][key + ending] for ending in ENDINGS.values())]
        for title, task, key in named
        if task in results
    ]
    return pipe_table([*rows, ["mIoU", results["sem_seg"]["mIoU"]]], ["", *ENDINGS])


def pipe_table(
    rows: Sequence[Sequence[Any]],
    headers: Sequence[str],
    formats: str | Sequence[str] = ".1f",
    stralign: str = "left",
) -> str:
    """A table for the terminal; numbers in ``formats`` (one, or one a column), "-" for None."""
    return tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=formats, missingval="-", stralign=stralign)


def _values(entry: Mapping[str, Any]) -> list[float]:
    return [_number(entry[key]) for key in _KEYS]


def _ends_header(content: Mapping[str, Any]) -> list[str]:
    return [f"PQ, {100 * content['intervals']['confidence']:g} %"] if "intervals" in content else []


def _ends(entry: Mapping[str, Any]) -> list[str]:
    """Lower and upper end of PQ, where there are intervals."""
    ends = entry.get("PQ_interval", ())
    return ["-" if ends is None else f"{ends[0]:.1f} to {ends[1]:.1f}"] if ends != () else []
