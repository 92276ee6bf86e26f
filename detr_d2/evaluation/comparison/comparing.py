"""Two evaluations of the same images: sums side by side, and how each image changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detr_d2.data.categories import Category
from detr_d2.errors import DatasetError
from detr_d2.evaluation.bootstrap import Differences, paired_differences
from detr_d2.evaluation.evaluation_folder import EvaluationFolder
from detr_d2.evaluation.matching import Count
from detr_d2.evaluation.panoptic_quality import PanopticQuality, image_quality
from detr_d2.evaluation.records import EvaluationRecord
from detr_d2.evaluation.results import group_labels
from detr_d2.wording import counted

#: Images that are named in a message.
_NAMED = 5


@dataclass(frozen=True)
class ImageChange:
    """Quality of one image in both evaluations, as parts of 1: the mean over the classes it has or is said to have.

    Args:
        image_id: of the dataset.
        file_name: of the photo.
        before, after: quality in the first and in the second evaluation.
    """

    image_id: Any
    file_name: str
    before: float
    after: float

    @property
    def difference(self) -> float:
        """What the second has more."""
        return self.after - self.before


@dataclass
class Comparison:
    """Two evaluations of the same images.

    Args:
        categories: by contiguous class.
        before, after: quality in the first and in the second evaluation, of the same images in the same order.
        changes: of each image that has something to judge in both.
        left_out: images that only one of them has.
    """

    categories: Sequence[Category]
    before: PanopticQuality
    after: PanopticQuality
    changes: list[ImageChange] = field(default_factory=list)
    left_out: int = 0

    def differences(self, resamples: int = 1000, seed: int = 0) -> Differences:
        """Intervals of the differences; see :func:`detr_d2.evaluation.bootstrap.paired_differences`."""
        groups = group_labels([category.is_thing for category in self.categories])
        return paired_differences(self.before, self.after, groups, resamples, seed)


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
            f"{len(only_second)} only in "
            f"{second.path} ({_names(only_second)}). Evaluate both with the same images, or compare what is common "
            "with --common."
        )
    if not len(found.after):
        raise DatasetError(f"{first.path} and {second.path} have no image in common.")
    return found


def _add(found: Comparison, record: EvaluationRecord, before: list[Count], after: list[Count]) -> None:
    found.before.add(before)
    found.after.add(after)
    qualities = image_quality(before), image_quality(after)
    if not any(map(math.isnan, qualities)):
        found.changes.append(ImageChange(record.image_id, record.file_name, *qualities))


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
