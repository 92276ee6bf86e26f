"""Everything that is measured of panoptic predictions, from records of images.

Source: Kirillov et al. 2019, "Panoptic Segmentation" (PQ); Cheng et al. 2021, "Boundary IoU" (Boundary PQ: the IoU of
a match is the smaller one of segments and boundaries); Porzi et al. 2019, "Seamless Scene Segmentation", section 4
(PQ†: stuff has no threshold); Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation", section 5
(mIoU and its kin); the bounds of COCO's box AP, https://cocodataset.org/#detection-eval (sizes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality
from detr_d2.evaluation.records import EvaluationRecord

SIZES = ("small", "medium", "large")
#: Area in pixels from which on a segment is medium, and large.
SIZE_BOUNDS = (32**2, 96**2)


class PanopticMeasures:
    """Sums over images; what is kept doesn't grow with them, but for some numbers of each image for the intervals.

    Args:
        is_thing: for each contiguous class.
    """

    def __init__(self, is_thing: Sequence[bool]) -> None:
        count = len(is_thing)
        self.is_thing = list(is_thing)
        self.quality, self.boundary = PanopticQuality(count), PanopticQuality(count, keep_images=False)
        #: A match and a missed segment have the true segment's size, a wrong one has its own.
        self.of_size = {size: PanopticQuality(count, keep_images=False) for size in SIZES}
        self.has_boundaries = False
        #: (K, K + 1) pixels by true class and predicted class; the last column is of predicted void.
        self.confusion = np.zeros((count, count + 1), dtype=np.int64)
        #: Sum of the IoU of true stuff segments, whatever it is, and how many there are, of each class.
        self.stuff_iou = np.zeros(count)
        self.stuff_segments = np.zeros(count, dtype=np.int64)

    def add(self, record: EvaluationRecord) -> None:
        """Add an image."""
        image = record.compared
        counts = image.counts()
        self.quality.add(counts.values())
        for size, quality in self.of_size.items():
            quality.add(count for i, count in counts.items() if size_of(image.area(i)) == size)
        self._add_classes(record)
        if record.boundary_pixels is not None:
            self.has_boundaries = True
            self.boundary.add(image.counts(image.match(record.boundary_pixels)).values())

    def merge(self, other: PanopticMeasures) -> None:
        """Add the images of another part of the dataset."""
        self.quality.merge(other.quality)
        self.boundary.merge(other.boundary)
        for size, quality in self.of_size.items():
            quality.merge(other.of_size[size])
        self.has_boundaries |= other.has_boundaries
        self.confusion += other.confusion
        self.stuff_iou += other.stuff_iou
        self.stuff_segments += other.stuff_segments

    def dagger(self, label: int) -> Quality:
        """PQ† of a class: PQ of things; for stuff the mean IoU over the images that have it, and no SQ and RQ."""
        if self.is_thing[label]:
            return self.quality.of_class(label)
        segments = int(self.stuff_segments[label])
        if not segments:
            return Quality(math.nan, math.nan, math.nan, 0)
        return Quality(float(self.stuff_iou[label]) / segments, math.nan, math.nan, 1)

    def mean_dagger(self, labels: Sequence[int]) -> float:
        """Mean of PQ† over those of the classes that there are; NaN for none."""
        present = [quality.pq for quality in map(self.dagger, labels) if quality.n]
        return reduce(add, present) / len(present) if present else math.nan

    def semantic(self) -> dict[str, float]:
        """What semantic segmentation is measured by, as parts of 1, with Detectron2's names; NaN without pixels.

        Classes that the ground truth doesn't have are left out of the means; predictions on true void don't count.
        """
        ious, accuracies, true = self.class_ious(), self.class_accuracies(), self.confusion.sum(axis=1)
        present, pixels = true > 0, int(true.sum())
        if not pixels:
            return dict.fromkeys(("mIoU", "fwIoU", "mACC", "pACC"), math.nan)
        return {
            "mIoU": float(ious[present].mean()),
            "fwIoU": float((ious[present] * true[present]).sum() / pixels),
            "mACC": float(accuracies[present].mean()),
            "pACC": float(np.trace(self.confusion) / pixels),
        }

    def class_ious(self) -> np.ndarray:
        """(K,) IoU of all pixels of each class; NaN where the ground truth has none."""
        true, right = self.confusion.sum(axis=1), np.diagonal(self.confusion)
        union = true + self.confusion[:, :-1].sum(axis=0) - right
        return np.where(true > 0, right / np.maximum(union, 1), np.nan)

    def class_accuracies(self) -> np.ndarray:
        """(K,) part of each class's true pixels that is predicted as such; NaN where there are none."""
        true = self.confusion.sum(axis=1)
        return np.where(true > 0, np.diagonal(self.confusion) / np.maximum(true, 1), np.nan)

    def _add_classes(self, record: EvaluationRecord) -> None:
        """Pixels by classes, and the IoU of stuff."""
        true = {s["id"]: s["class"] for s in record.true}
        predicted = {s["id"]: s["class"] for s in record.predicted} | {VOID: len(self.is_thing)}
        for true_id, predicted_id, pixels in record.overlaps:
            if true_id != VOID:
                self.confusion[true[true_id], predicted[predicted_id]] += pixels
        for segment in record.true:
            label = segment["class"]
            if not self.is_thing[label] and not segment["iscrowd"]:
                same = [s["id"] for s in record.predicted if s["class"] == label]
                self.stuff_iou[label] += max(
                    (record.compared.overlaps.iou(segment["id"], i) for i in same), default=0.0
                )
                self.stuff_segments[label] += 1


def size_of(area: int) -> str:
    """small, medium or large."""
    return SIZES[sum(area >= bound for bound in SIZE_BOUNDS)]
