"""A comparison as data, for JSON, and as a page with the images that changed most."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detr_d2.evaluation.bootstrap import Differences
from detr_d2.evaluation.comparison.comparing import Comparison, ImageChange
from detr_d2.evaluation.evaluation_folder import EvaluationFolder
from detr_d2.evaluation.panoptic_quality import Quality
from detr_d2.evaluation.records import EvaluationRecord
from detr_d2.evaluation.report.views import ImageViews, address_of
from detr_d2.evaluation.results import group_means, percent
from detr_d2.pages import write_page

#: With fewer images an interval is too narrow to believe.
LEAST_IMAGES = 5


def comparison_as_json(
    found: Comparison, differences: Differences, names: Sequence[str], images: int
) -> dict[str, Any]:
    """Everything in percent; null where there is nothing to judge.

    Args:
        found: the two evaluations.
        differences: of them.
        names: of the first and of the second.
        images: so many of those that lost most, and of those that gained most.
    """
    is_thing = [category.is_thing for category in found.categories]
    before, after = group_means(found.before, is_thing), group_means(found.after, is_thing)
    groups = {
        name: _row(before[name], after[name], differences.groups[name], differences.better_groups[name])
        | {"images": len(found.after)}
        for name in before
    }
    images_of_class = np.maximum(found.before.images_of_classes(), found.after.images_of_classes())
    classes = []
    for label, category in enumerate(found.categories):
        pair = found.before.of_class(label), found.after.of_class(label)
        counts = {
            key: [int(getattr(quality, key)[label]) for quality in (found.before, found.after)]
            for key in ("true_positives", "false_positives", "false_negatives")
        }
        row = _row(*pair, differences.classes[label], differences.better_classes[label])
        about = {"id": category.id, "name": category.name, "is_thing": category.is_thing, "color": category.color}
        classes.append({**about, **row, **counts, "images": int(images_of_class[label])})
    for row in (*groups.values(), *classes):
        row["verdict"] = verdict(row)
    worse, better = most_changed(found.changes, images)
    return {
        **{"names": list(names), "images": len(found.after), "left_out": found.left_out},
        **{"resamples": differences.resamples, "confidence": differences.confidence},
        **{"groups": groups, "classes": classes},
        **{"lost_most": [_about(change) for change in worse], "gained_most": [_about(change) for change in better]},
    }


def most_changed(changes: Sequence[ImageChange], count: int) -> tuple[list[ImageChange], list[ImageChange]]:
    """The images that lost most, and those that gained most; at most ``count`` each."""
    order = sorted(changes, key=lambda change: change.difference)
    return (
        [change for change in order[:count] if change.difference < 0],
        [change for change in order[::-1][:count] if change.difference > 0],
    )


def verdict(row: dict[str, Any]) -> str:
    """better, worse, the same, or that nothing can be said."""
    if row["interval"] is None:
        return "nothing to compare"
    low, high = row["interval"]
    if low == high == 0:
        return "the same"
    if row["images"] < LEAST_IMAGES:
        return "too few images"
    return "better" if low > 0 else "worse" if high < 0 else "not significant"


def changed_classes(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The classes whose interval is off 0, those that lost most first."""
    changed = [row for row in content["classes"] if row["verdict"] in ("better", "worse")]
    return sorted(changed, key=lambda row: row["difference"])


def _row(before: Quality, after: Quality, ends: np.ndarray, better: np.ndarray) -> dict[str, Any]:
    known = not (math.isnan(before.pq) or math.isnan(after.pq) or np.isnan(ends[0]).any())
    row: dict[str, Any] = {
        "before": percent(before.pq),
        "after": percent(after.pq),
        "difference": 100 * (after.pq - before.pq) if known else None,
        "interval": (100 * ends[0]).tolist() if known else None,
        "better_in": float(better[0]) if known else None,
    }
    for key, place in (("SQ", 1), ("RQ", 2)):
        pair = (getattr(before, key.lower()), getattr(after, key.lower()))
        row[f"{key}_difference"] = percent(pair[1] - pair[0])
        row[f"{key}_interval"] = None if np.isnan(ends[place]).any() else (100 * ends[place]).tolist()
    return row


def _about(change: ImageChange) -> dict[str, Any]:
    return {
        **{"image_id": change.image_id, "file_name": change.file_name},
        **{"before": 100 * change.before, "after": 100 * change.after, "difference": 100 * change.difference},
    }


_TEMPLATE = Path(__file__).parent / "templates" / "compare.html"


def write_comparison_page(
    path: str | os.PathLike[str], content: dict[str, Any], first: EvaluationFolder, second: EvaluationFolder
) -> Path:
    """Write the page, self-contained.

    Args:
        path: where to.
        content: as :func:`detr_d2.evaluation.comparison.page.comparison_as_json` gives it.
        first, second: the evaluations, for the images.
    """
    chosen = {entry["image_id"] for entry in (*content["lost_most"], *content["gained_most"])}
    records = [_chosen(folder.records(), chosen) for folder in (first, second)]
    drawn = {
        title: [entry | {"views": _views(entry["image_id"], (first, second), records, content)} for entry in entries]
        for title, entries in (("lost most", content["lost_most"]), ("gained most", content["gained_most"]))
    }
    about = [
        {"path": str(f.path), **{key: f.run.get(key) for key in ("weights", "finished", "commit")}}
        for f in (first, second)
    ]
    title = f"{content['names'][0]} and {content['names'][1]} on {first.run['dataset']}"
    return write_page(
        path, _TEMPLATE, title=title, content=content, changed=changed_classes(content), drawn=drawn, about=about
    )


def _chosen(records: Iterable[EvaluationRecord], image_ids: set[Any]) -> dict[Any, EvaluationRecord]:
    return {record.image_id: record for record in records if record.image_id in image_ids}


def _views(
    image_id: Any,
    folders: tuple[EvaluationFolder, EvaluationFolder],
    records: list[dict[Any, EvaluationRecord]],
    content: Mapping[str, Any],
) -> list[tuple[str, str]]:
    """Names and addresses of photo, ground truth and both predictions."""
    shown: list[tuple[str, np.ndarray]] = []
    for name, folder, known in zip(content["names"], folders, records):
        record = known[image_id]
        views = ImageViews(record, folder.preview(image_id), folder.categories)
        of_name = dict(views.all())
        shown = shown or [(key, of_name[key]) for key in ("photo", "ground truth") if key in of_name]
        shown += [(name, of_name["prediction"])] if "prediction" in of_name else []
    return [(name, address_of(image)) for name, image in shown]
