"""How much panoptic quality each kind of mistake costs: it is computed anew, with that kind fixed in all images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from detr_d2.evaluation.matching import ComparedImage
from detr_d2.evaluation.panoptic_quality import IOU, PanopticQuality, class_qualities
from detr_d2.evaluation.report.mistakes import KINDS, Mistake
from detr_d2.evaluation.results import group_labels


@dataclass(frozen=True)
class Gain:
    """What fixing one kind of mistake gives back, in percentage points of PQ.

    Args:
        groups: for All, Things and Stuff; NaN where there is nothing to judge.
        classes: (K,), NaN where a class is neither in the ground truth nor predicted.
    """

    groups: dict[str, float]
    classes: np.ndarray


class MistakeTally:
    """Sums up the mistakes of all images.

    Args:
        num_classes: contiguous class ids are 0 ... num_classes - 1.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        #: Mistakes of each kind: in all, and by class (the true one where there is one, else the predicted one).
        self.mistakes: Counter[str] = Counter()
        self.of_class: dict[str, np.ndarray] = {kind: np.zeros(num_classes, np.int64) for kind in KINDS}
        #: (true class, predicted class) of each "wrong_class"; class of each predicted segment that is mostly void.
        self.confusions: Counter[tuple[int, int]] = Counter()
        self.ignored = np.zeros(num_classes, np.int64)
        #: What the fix of each kind adds to the counts, and how many new matches it adds of the class's usual IoU.
        self._changes = {kind: PanopticQuality(num_classes) for kind in KINDS}
        self._usual = {kind: np.zeros(num_classes) for kind in KINDS}

    def add(self, mistakes: Iterable[Mistake], image: ComparedImage) -> None:
        """Add an image and its mistakes."""
        for mistake in mistakes:
            label = mistake.changes[0].label
            self.mistakes[mistake.kind] += 1
            self.of_class[mistake.kind][label] += 1
            if mistake.kind == "wrong_class":
                self.confusions[label, image.predicted_class[mistake.predicted_ids[0]]] += 1
            self._changes[mistake.kind].add(mistake.changes)
            self._usual[mistake.kind][label] += mistake.usual
        for predicted_id in image.matching.ignored:
            self.ignored[image.predicted_class[predicted_id]] += 1

    def fixed(self, quality: PanopticQuality, kind: str) -> PanopticQuality:
        """The counts as they would be without one kind of mistake.

        A segment that is found by the fix, but has no IoU of its own, gets the mean IoU of its class's matches; the
        mean of all matches where the class has none, and 1 where there is no match at all.
        """
        change = self._changes[kind].totals.copy()
        change[IOU] += self._usual[kind] * quality.usual_iou()
        return quality.changed(change)

    def gain(self, quality: PanopticQuality, kind: str, is_thing: Sequence[bool]) -> Gain:
        """PQ with one kind fixed, less PQ as it is, in percentage points.

        A class that is left with nothing to judge, as all there was of it was predicted wrongly, leaves the means.
        """
        fixed = self.fixed(quality, kind)
        groups = {
            name: 100 * (fixed.average(labels).pq - quality.average(labels).pq)
            for name, labels in group_labels(is_thing).items()
        }
        before, after = (class_qualities(counts.totals)[:, 0] for counts in (quality, fixed))
        gone = np.isnan(after) & ~np.isnan(before)
        return Gain(groups, 100 * np.where(gone, 0.0, after - before))
