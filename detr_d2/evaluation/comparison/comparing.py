"""Two evaluations of the same images: sums side by side, how each image changed, and all of it as data for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.errors import DatasetError
from detr_d2.evaluation.bootstrap import bootstrap_intervals
from detr_d2.evaluation.evaluation_folder import EvaluationFolder
from detr_d2.evaluation.matching import Count
from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality, image_quality
from detr_d2.evaluation.records import EvaluationRecord
from detr_d2.evaluation.results import COUNTS, group_labels, group_means, percent, percents
from detr_d2.wording import counted

#: Images that are named in a message.
_NAMED = 5
#: With fewer images an interval is too narrow to believe.
LEAST_IMAGES = 5


@dataclass
class Comparison:
    """Two evaluations of the same images.

    Args:
        categories: by contiguous class.
        before, after: quality in the first and in the second evaluation, of the same images in the same order.
        changes: of each image that has something to judge in both: "image_id", "file_name", and "before", "after" and
            "difference" of its own PQ in percent.
        left_out: images that only one of them has.
    """

    categories: Sequence[Category]
    before: PanopticQuality
    after: PanopticQuality
    changes: list[dict[str, Any]] = field(default_factory=list)
    left_out: int = 0

    def as_json(self, names: Sequence[str], images: int, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
        """Everything in percent; null where there is nothing to judge.

        Args:
            names: of the first and of the second evaluation.
            images: so many of those that lost most, and of those that gained most.
            resamples, seed: of the intervals, see :func:`detr_d2.evaluation.bootstrap.bootstrap_intervals`.
        """
        is_thing = [category.is_thing for category in self.categories]
        found = bootstrap_intervals(self.after, group_labels(is_thing), resamples, seed, before=self.before)
        before, after = group_means(self.before, is_thing), group_means(self.after, is_thing)
        groups = {
            name: _row(before[name], after[name], found.groups[name], found.above_groups[name], len(self.after))
            for name in before
        }
        in_images = np.maximum(self.before.images_of_classes(), self.after.images_of_classes()).tolist()
        classes = []
        for label, category in enumerate(self.categories):
            pair = self.before.of_class(label), self.after.of_class(label)
            about = {"id": category.id, "name": category.name, "is_thing": category.is_thing, "color": category.color}
            row = _row(*pair, found.classes[label], found.above_classes[label], in_images[label])
            counts = {key: [int(getattr(one, key)[label]) for one in (self.before, self.after)] for key in COUNTS}
            classes.append({**about, **row, **counts})
        order = sorted(self.changes, key=lambda change: change["difference"])
        return {
            **{"names": list(names), "images": len(self.after), "left_out": self.left_out},
            **{"resamples": found.resamples, "confidence": found.confidence, "groups": groups, "classes": classes},
            "lost_most": [change for change in order[:images] if change["difference"] < 0],
            "gained_most": [change for change in order[::-1][:images] if change["difference"] > 0],
        }


def changed_classes(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The classes of :meth:`Comparison.as_json` whose interval is off 0, those that lost most first."""
    changed = [row for row in content["classes"] if row["verdict"] in ("better", "worse")]
    return sorted(changed, key=lambda row: row["difference"])


def _row(before: Quality, after: Quality, ends: np.ndarray, better: np.ndarray, images: int) -> dict[str, Any]:
    known = before.n > 0 and after.n > 0 and not np.isnan(ends[0]).any()
    row: dict[str, Any] = {
        "before": percent(before.pq),
        "after": percent(after.pq),
        "difference": 100 * (after.pq - before.pq) if known else None,
        "interval": percents(ends[0]) if known else None,
        "better_in": float(better[0]) if known else None,
        "images": images,
    }
    row["verdict"] = _verdict(row["interval"], images)
    for key, pair in zip(("SQ", "RQ"), ends[1:]):
        row[f"{key}_difference"] = percent(getattr(after, key.lower()) - getattr(before, key.lower()))
        row[f"{key}_interval"] = percents(pair)
    return row


def _verdict(interval: list[float] | None, images: int) -> str:
    """better, worse, the same, or that nothing can be said."""
    if interval is None:
        return "nothing to compare"
    low, high = interval
    if low == high == 0:
        return "the same"
    if images < LEAST_IMAGES:
        return "too few images"
    return "better" if low > 0 else "worse" if high < 0 else "not significant"


def compare_evaluations(first: EvaluationFolder, second: EvaluationFolder, only_common: bool = False) -> Comparison:
    """Put two evaluations side by side, image by image.

    Args:
        first, second: their folders.
        only_common: leave out images that only one of them has.

    Raises:
        DatasetError: classes or ground truth differ, or images without ``only_common``; or no image is common.
    """
    _require_same_classes(first, second)
    count = len(first.categories)
    known = {record.image_id: (_counts(record), _gt_segments(record)) for record in first.records()}
    found = Comparison(first.categories, PanopticQuality(count), PanopticQuality(count))
    only_second, other_gt = [], []
    for record in second.records():
        before, gt = known.pop(record.image_id, (None, None))
        if before is None:
            only_second.append(record.image_id)
        elif gt != _gt_segments(record):
            other_gt.append(record.image_id)
        else:
            _add(found, record, before, _counts(record))
    found.left_out = len(known) + len(only_second)
    if other_gt:
        images = counted(len(other_gt), "image has", "images have")
        raise DatasetError(
            f"{images} another ground truth in {second.path} than in {first.path}: "
            f"{_names(other_gt)}. Evaluate both with the same dataset."
        )
    if found.left_out and not only_common:
        raise DatasetError(
            f"{counted(len(known), 'image is', 'images are')} only in {first.path} ({_names(list(known))}), "
            f"{len(only_second)} only in {second.path} ({_names(only_second)}). Evaluate both with the same images, or "
            "compare what is common with --common."
        )
    if not len(found.after):
        raise DatasetError(f"{first.path} and {second.path} have no image in common.")
    return found


def _add(found: Comparison, record: EvaluationRecord, before: list[Count], after: list[Count]) -> None:
    found.before.add(before)
    found.after.add(after)
    was, now = percent(image_quality(before)), percent(image_quality(after))
    if was is not None and now is not None:
        about = {"image_id": record.image_id, "file_name": record.file_name}
        found.changes.append({**about, "before": was, "after": now, "difference": now - was})


def _counts(record: EvaluationRecord) -> list[Count]:
    return list(record.compared.counts().values())


def _gt_segments(record: EvaluationRecord) -> tuple[tuple[int, ...], ...]:
    return tuple(sorted((s["id"], s["class"], s["area"], s["iscrowd"]) for s in record.true))


def _require_same_classes(first: EvaluationFolder, second: EvaluationFolder) -> None:
    classes = [[(c.name, c.is_thing) for c in folder.categories] for folder in (first, second)]
    if classes[0] != classes[1]:
        differing = sorted({name for name, _ in set(classes[0]) ^ set(classes[1])})
        count = counted(len(classes[0]), "class", "classes")
        raise DatasetError(
            f"{first.path} has {count}, {second.path} {len(classes[1])}, and they aren't the same, "
            f"or not in the same order (differing: {_names(differing)}). Evaluate both with the same dataset."
        )


def _names(values: Sequence[Any]) -> str:
    more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
    return ", ".join(map(str, values[:_NAMED])) + more if values else "none"
