"""What dropping small or unsure segments would give, counted as if the maps had lost them."""

from __future__ import annotations

import numpy as np
import pytest

from detr_d2.evaluation.overlaps import Overlaps
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.report.dropping import PredictedSegments
from detr_d2.evaluation.report.mistakes import find_mistakes
from detr_d2.evaluation.report.scene import Scene

TRUE = np.array([[1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2], [3, 3, 3, 3, 3, 3]])
TRUE_CLASS = {1: 0, 2: 1, 3: 1}
# 1 and 2 are right, 4 and 5 are wrong, 6 is right and small.
PREDICTED = np.array([[1, 1, 1, 1, 1, 4], [2, 2, 2, 2, 5, 5], [6, 6, 6, 6, 0, 0]])
PREDICTED_CLASS = {1: 0, 2: 1, 4: 0, 5: 0, 6: 1}
SCORES = {1: 0.99, 2: 0.98, 4: 0.5, 5: 0.6, 6: 0.9}


def quality_of(predicted: np.ndarray) -> PanopticQuality:
    quality = PanopticQuality(2)
    segments = [{"id": i, "category_id": c} for i, c in PREDICTED_CLASS.items() if (predicted == i).any()]
    true = [{"id": i, "category_id": c, "iscrowd": 0} for i, c in TRUE_CLASS.items()]
    quality.update(TRUE, true, predicted, segments)
    return quality


@pytest.fixture
def predicted() -> PredictedSegments:
    scene = Scene(TRUE_CLASS, {}, PREDICTED_CLASS, Overlaps(TRUE, PREDICTED).pairs)
    segments = PredictedSegments()
    segments.add(find_mistakes(scene), scene, dict(SCORES))
    return segments


@pytest.mark.parametrize("bound", [1, 2, 3, 5, 7])
def test_dropped_segments_count_as_if_the_map_had_not_had_them(predicted: PredictedSegments, bound: int) -> None:
    areas = {i: int((i == PREDICTED).sum()) for i in PREDICTED_CLASS}
    left = np.where(np.isin(PREDICTED, [i for i, area in areas.items() if area < bound]), 0, PREDICTED)

    counted = predicted.without(quality_of(PREDICTED), np.array(predicted.areas) < bound)

    expected = quality_of(left)
    for name in ("iou", "true_positives", "false_positives", "false_negatives"):
        np.testing.assert_allclose(getattr(counted, name), getattr(expected, name))


def test_best_bound_drops_the_wrong_and_keeps_the_right(predicted: PredictedSegments) -> None:
    quality = quality_of(PREDICTED)

    area = predicted.best(quality, "areas", (2, 3, 5, 100))
    score = predicted.best(quality, "scores", (0.4, 0.55, 0.8, 0.95))

    assert area is not None and (area["below"], area["wrong"], area["right"]) == (3, 2, 0) and area["gain"] > 0
    assert score is not None and (score["below"], score["wrong"], score["right"]) == (0.8, 2, 0)


def test_no_bound_is_best_where_none_helps(predicted: PredictedSegments) -> None:
    predicted.ious = [1.0] * len(predicted.ious)
    quality = PanopticQuality(2)
    quality.iou = np.bincount(predicted.labels, minlength=2).astype(float)
    quality.true_positives = np.bincount(predicted.labels, minlength=2)

    assert predicted.best(quality, "areas", (2, 3, 100)) is None


def test_segments_without_a_score_are_never_below_one(predicted: PredictedSegments) -> None:
    predicted.scores = [float("nan")] * len(predicted.scores)

    assert predicted.best(quality_of(PREDICTED), "scores", (0.5, 0.99)) is None
