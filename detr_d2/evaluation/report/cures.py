"""How much panoptic quality each kind of mistake costs: it is computed anew, with that kind cured in all pictures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.report.mistakes import KINDS, Findings
from detr_d2.evaluation.results import group_labels

_ROWS = ("iou", "true_positives", "false_positives", "false_negatives", "usual")


@dataclass(frozen=True)
class Gain:
    """What curing one kind of mistake gives back, in percentage points of PQ.

    Args:
        groups: for All, Things and Stuff; NaN where there is nothing to judge.
        classes: (K,), NaN where a class is neither in the truth nor predicted.
    """

    groups: dict[str, float]
    classes: np.ndarray


class MistakeTally:
    """Sums up the mistakes of all pictures.

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
        self._changes = {kind: np.zeros((len(_ROWS), num_classes)) for kind in KINDS}

    def add(self, findings: Findings, predicted_class: dict[int, int]) -> None:
        """Add a picture; ``predicted_class`` is by predicted id."""
        for mistake in findings.mistakes:
            self.mistakes[mistake.kind] += 1
            self.of_class[mistake.kind][mistake.changes[0].label] += 1
            if mistake.kind == "wrong_class":
                self.confusions[mistake.changes[0].label, predicted_class[mistake.predicted_ids[0]]] += 1
            changes = self._changes[mistake.kind]
            for label, tp, fp, fn, iou, usual in mistake.changes:
                changes[:, label] += (iou, tp, fp, fn, usual)
        for predicted_id in findings.ignored:
            self.ignored[predicted_class[predicted_id]] += 1

    def cured(self, quality: PanopticQuality, kind: str) -> PanopticQuality:
        """The counts as they would be without one kind of mistake.

        A segment that is found by the cure, but has no IoU of its own, gets the mean IoU of its class's matches; the
        mean of all matches where the class has none, and 1 where there is no match at all.
        """
        iou, tp, fp, fn, usual = self._changes[kind]
        result = PanopticQuality(self.num_classes)
        result.iou = quality.iou + iou + usual * usual_iou(quality)
        result.true_positives = quality.true_positives + tp.astype(np.int64)
        result.false_positives = quality.false_positives + fp.astype(np.int64)
        result.false_negatives = quality.false_negatives + fn.astype(np.int64)
        return result

    def gain(self, quality: PanopticQuality, kind: str, is_thing: Sequence[bool]) -> Gain:
        """PQ with one kind cured, less PQ as it is, in percentage points.

        A class that is left with nothing to judge, as all there was of it was predicted wrongly, leaves the means.
        """
        cured = self.cured(quality, kind)
        groups = {
            name: 100 * (cured.average(labels).pq - quality.average(labels).pq)
            for name, labels in group_labels(is_thing).items()
        }
        before, after = (
            np.array([q.of_class(label).pq for label in range(self.num_classes)]) for q in (quality, cured)
        )
        gone = np.isnan(after) & ~np.isnan(before)
        return Gain(groups, 100 * np.where(gone, 0.0, after - before))


def usual_iou(quality: PanopticQuality) -> np.ndarray:
    """(K,): the mean IoU of each class's matches; of all matches where it has none; 1 where there is none at all."""
    matches = quality.true_positives
    overall = float(quality.iou.sum() / matches.sum()) if matches.sum() else 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(matches > 0, quality.iou / matches, overall)


def finite(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)
