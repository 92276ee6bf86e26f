"""Panoptic quality of small, medium and large segments.

Source: the bounds of COCO's box AP, 32² and 96² pixels of area (https://cocodataset.org/#detection-eval).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.report.mistakes import Findings
from detr_d2.evaluation.report.scene import Scene

SIZES = ("small", "medium", "large")
#: Area in pixels from which on a segment is medium, and large.
BOUNDS = (32**2, 96**2)


class SizeQuality:
    """Panoptic quality by size: a match and a missed segment have the true segment's, a wrong one has its own.

    Args:
        num_classes: contiguous class ids are 0 ... num_classes - 1.
    """

    def __init__(self, num_classes: int) -> None:
        self.of_size = {size: PanopticQuality(num_classes) for size in SIZES}

    def add(self, findings: Findings, scene: Scene) -> None:
        """Add a picture."""
        for true_id, iou in findings.matches.values():
            quality = self.of_size[size_of(scene.true_areas[true_id])]
            quality.iou[scene.true_class[true_id]] += iou
            quality.true_positives[scene.true_class[true_id]] += 1
        for mistake in findings.mistakes:
            if mistake.kind == "loose_borders":
                continue
            for true_id in mistake.true_ids:
                quality = self.of_size[size_of(scene.true_areas[true_id])]
                quality.false_negatives[scene.true_class[true_id]] += 1
            for predicted_id in mistake.predicted_ids:
                if predicted_id not in findings.ignored:
                    quality = self.of_size[size_of(scene.predicted_areas[predicted_id])]
                    quality.false_positives[scene.predicted_class[predicted_id]] += 1

    def as_json(self, groups: dict[str, list[int]]) -> list[dict[str, Any]]:
        """For each size PQ, SQ, RQ of the groups in percent, and the true segments."""
        rows = []
        for size, quality in self.of_size.items():
            row: dict[str, Any] = {"size": size, "true_segments": _true_segments(quality)}
            for name, labels in groups.items():
                mean = quality.average(labels)
                row[name] = {
                    key: None if np.isnan(value) else 100 * value
                    for key, value in (("PQ", mean.pq), ("SQ", mean.sq), ("RQ", mean.rq))
                } | {"N": mean.n}
            rows.append(row)
        return rows


def size_of(area: int) -> str:
    """small, medium or large."""
    return SIZES[sum(area >= bound for bound in BOUNDS)]


def _true_segments(quality: PanopticQuality) -> int:
    return int(quality.true_positives.sum() + quality.false_negatives.sum())
