"""What panoptic quality would be if segments that are small, or have a low score, were dropped.

It is counted again exactly, but for one thing: a model that drops a segment gives its pixels to others, which can only
be known by asking the model. What is best for these pictures may be less so for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.report.mistakes import Findings
from detr_d2.evaluation.report.scene import Scene

#: Areas in pixels and scores below which dropping is tried.
AREAS = (8, 16, 25, 36, 50, 75, 100, 150, 200, 300, 400, 600, 1000)
SCORES = tuple(place / 100 for place in range(5, 100))


@dataclass
class PredictedSegments:
    """Class, area, score and IoU (-1 of a wrong one) of every predicted segment that counts; NaN: it has no score."""

    labels: list[int] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)

    def add(self, findings: Findings, scene: Scene, scores: dict[int, float | None]) -> None:
        """Add a picture's."""
        for predicted_id, label in scene.predicted_class.items():
            if predicted_id in findings.ignored:
                continue
            score = scores.get(predicted_id)
            self.labels.append(label)
            self.areas.append(scene.predicted_areas[predicted_id])
            self.scores.append(float("nan") if score is None else score)
            self.ious.append(findings.matches[predicted_id][1] if predicted_id in findings.matches else -1.0)

    def without(self, quality: PanopticQuality, dropped: np.ndarray) -> PanopticQuality:
        """The counts without some segments: a wrong one is gone, a right one's true segment isn't found.

        Args:
            quality: the counts with all of them.
            dropped: (P,) bool.
        """
        labels, ious = np.array(self.labels, np.int64), np.array(self.ious)
        right, classes = ious >= 0, len(quality.iou)
        wrong_of, right_of = (np.bincount(labels[dropped & which], minlength=classes) for which in (~right, right))
        kept = right & ~dropped
        result = PanopticQuality(classes)
        result.iou = np.asarray(np.bincount(labels[kept], ious[kept], classes), np.float64)
        result.true_positives = quality.true_positives - right_of
        result.false_positives = quality.false_positives - wrong_of
        result.false_negatives = quality.false_negatives + right_of
        return result

    def best(self, quality: PanopticQuality, of: str, bounds: Sequence[float]) -> dict[str, Any] | None:
        """The bound with the most PQ (All) if all segments below it are dropped; None where none is better than all.

        Args:
            quality: the counts with all of them.
            of: "areas" or "scores".
            bounds: to be tried.

        Returns:
            "below", "gain" (points of PQ), and how many "wrong" and "right" segments are below.
        """
        values, right = np.array(getattr(self, of), np.float64), np.array(self.ious) >= 0
        everything = range(len(quality.iou))
        before, found = quality.average(everything).pq, None
        for bound in bounds:
            dropped = values < bound
            if not dropped.any():
                continue
            gain = 100 * (self.without(quality, dropped).average(everything).pq - before)
            if gain > (found["gain"] if found else 0.0):
                counts = {"wrong": int((dropped & ~right).sum()), "right": int((dropped & right).sum())}
                found = {"below": bound, "gain": gain, **counts}
        return found
