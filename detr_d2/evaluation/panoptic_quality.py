"""Panoptic quality: how well predicted segments cover the true ones, class by class.

Source: Kirillov et al. 2019, "Panoptic Segmentation", section 4. Void, crowds and the order of sums as in COCO's
panopticapi, so that the numbers are the same to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detr_d2.evaluation.overlaps import VOID, Overlaps

Segment = Mapping[str, Any]


@dataclass(frozen=True)
class Quality:
    """PQ = SQ * RQ of one class, or the means over ``n`` classes; NaN where there is nothing to judge."""

    pq: float
    sq: float
    rq: float
    n: int


@dataclass(frozen=True)
class Matches:
    """What one picture adds to panoptic quality.

    Args:
        true_positives: class and IoU of each match, in the order of the true ids.
        false_positives: the class of each predicted segment that matches none and counts.
        false_negatives: the class of each true segment that none matches.
    """

    true_positives: tuple[tuple[int, float], ...]
    false_positives: tuple[int, ...]
    false_negatives: tuple[int, ...]


class PanopticQuality:
    """Sums up, picture by picture, what panoptic quality needs: four numbers a class.

    Args:
        num_classes: contiguous class ids are 0 ... num_classes - 1.
    """

    def __init__(self, num_classes: int) -> None:
        self.iou = np.zeros(num_classes, dtype=np.float64)
        self.true_positives = np.zeros(num_classes, dtype=np.int64)
        self.false_positives = np.zeros(num_classes, dtype=np.int64)
        self.false_negatives = np.zeros(num_classes, dtype=np.int64)

    def update(
        self,
        true_map: np.ndarray,
        true_segments: Sequence[Segment],
        predicted_map: np.ndarray,
        predicted_segments: Sequence[Segment],
    ) -> None:
        """Add one picture.

        Args:
            true_map: (H, W) integers, the segment id of each pixel, 0 is void.
            true_segments: each with "id", "category_id" (contiguous) and "iscrowd".
            predicted_map: (H, W) integers, as ``true_map``.
            predicted_segments: each with "id" and "category_id" (contiguous).

        Raises:
            ValueError: the maps' sizes differ, or the prediction's ids in map and segments do.
        """
        overlaps = compare_maps(true_map, predicted_map, predicted_segments, len(self.iou))
        self.add(match_segments(overlaps, true_segments, predicted_segments))

    def add(self, matches: Matches) -> None:
        """Add a picture whose segments have been matched."""
        for label, iou in matches.true_positives:
            self.iou[label] += iou
            self.true_positives[label] += 1
        for label in matches.false_positives:
            self.false_positives[label] += 1
        for label in matches.false_negatives:
            self.false_negatives[label] += 1

    def merge(self, other: PanopticQuality) -> None:
        """Add the pictures of another part of the dataset."""
        self.iou += other.iou
        self.true_positives += other.true_positives
        self.false_positives += other.false_positives
        self.false_negatives += other.false_negatives

    def of_class(self, label: int) -> Quality:
        """Quality of one class; ``n`` is 0 where it is neither in the truth nor predicted."""
        tp, fp, fn = (int(counts[label]) for counts in self._counts())
        if tp + fp + fn == 0:
            return Quality(math.nan, math.nan, math.nan, 0)
        iou, denominator = float(self.iou[label]), tp + 0.5 * fp + 0.5 * fn
        return Quality(iou / denominator, iou / tp if tp else 0.0, tp / denominator, 1)

    def average(self, labels: Sequence[int]) -> Quality:
        """Means over those of the classes that are in the truth or were predicted."""
        present = [quality for quality in map(self.of_class, labels) if quality.n]
        if not present:
            return Quality(math.nan, math.nan, math.nan, 0)
        n = len(present)
        return Quality(
            sum(q.pq for q in present) / n, sum(q.sq for q in present) / n, sum(q.rq for q in present) / n, n
        )

    def _counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.true_positives, self.false_positives, self.false_negatives


@dataclass(frozen=True)
class Pairing:
    """Which segments of one picture belong together, by their ids.

    Args:
        matches: {predicted id: (true id, IoU)}, in the order of the true ids.
        wrong: predicted segments that match none and count.
        missed: true segments that none matches.
    """

    matches: dict[int, tuple[int, float]]
    wrong: tuple[int, ...]
    missed: tuple[int, ...]


def compare_maps(
    true_map: np.ndarray, predicted_map: np.ndarray, predicted_segments: Sequence[Segment], num_classes: int
) -> Overlaps:
    """Overlaps of a true and a predicted map that fit together.

    Raises:
        ValueError: the maps' sizes differ, or the prediction's ids in map and segments do, or a class is unknown.
    """
    if true_map.shape != predicted_map.shape:
        raise ValueError(
            f"the predicted map is {_size(predicted_map)}, the true one {_size(true_map)} (height x width); "
            "predict at the size of the original picture."
        )
    overlaps = Overlaps(true_map, predicted_map)
    predicted_class = {s["id"]: s["category_id"] for s in predicted_segments}
    _require_agreement(predicted_class, overlaps.predicted_areas, num_classes)
    return overlaps


def match_segments(
    overlaps: Overlaps, true_segments: Sequence[Segment], predicted_segments: Sequence[Segment]
) -> Matches:
    """Which predicted segments are true ones, by class and an IoU above 0.5; see :func:`pair_segments`."""
    pairing = pair_segments(overlaps, true_segments, predicted_segments)
    return matches_of(pairing, true_segments, predicted_segments)


def matches_of(pairing: Pairing, true_segments: Sequence[Segment], predicted_segments: Sequence[Segment]) -> Matches:
    """The classes of a pairing's segments."""
    true_class = {s["id"]: s["category_id"] for s in true_segments}
    predicted_class = {s["id"]: s["category_id"] for s in predicted_segments}
    return Matches(
        tuple((true_class[true_id], iou) for true_id, iou in pairing.matches.values()),
        tuple(predicted_class[predicted_id] for predicted_id in pairing.wrong),
        tuple(true_class[true_id] for true_id in pairing.missed),
    )


def pair_segments(
    overlaps: Overlaps,
    true_segments: Sequence[Segment],
    predicted_segments: Sequence[Segment],
    boundaries: Overlaps | None = None,
) -> Pairing:
    """Which predicted segments are true ones, by class and an IoU above 0.5.

    Args:
        overlaps: of the true and the predicted map.
        true_segments: each with "id", "category_id" and "iscrowd".
        predicted_segments: each with "id" and "category_id"; the same ids as the predicted map's.
        boundaries: overlaps of the segments' boundaries; IoU is the smaller one of segments and boundaries then.
    """
    true_class = {s["id"]: s["category_id"] for s in true_segments if not s.get("iscrowd")}
    # Of several crowds of a class only the last counts, as in panopticapi.
    crowd_of_class = {s["category_id"]: s["id"] for s in true_segments if s.get("iscrowd")}
    predicted_class = {s["id"]: s["category_id"] for s in predicted_segments}
    matches = overlaps.matches(true_class, predicted_class)
    if boundaries is not None:
        least = {p: (t, min(iou, boundaries.iou(t, p))) for p, (t, iou) in matches.items()}
        matches = {p: (t, iou) for p, (t, iou) in least.items() if iou > 0.5}
    wrong = []
    for predicted_id in predicted_class.keys() - matches.keys():
        crowd_id = crowd_of_class.get(predicted_class[predicted_id], -1)
        ignored = overlaps.pixels(VOID, predicted_id) + overlaps.pixels(crowd_id, predicted_id)
        if ignored / overlaps.predicted_areas[predicted_id] <= 0.5:
            wrong.append(predicted_id)
    missed = true_class.keys() - {true_id for true_id, _ in matches.values()}
    return Pairing(matches, tuple(wrong), tuple(missed))


def _require_agreement(predicted_class: Mapping[int, int], areas: Mapping[int, int], num_classes: int) -> None:
    """A prediction's segments are those of its map."""
    unlisted = sorted(areas.keys() - predicted_class.keys() - {VOID})
    unseen = sorted(predicted_class.keys() - (areas.keys() - {VOID}))
    unknown = sorted({label for label in predicted_class.values() if not 0 <= label < num_classes})
    if unlisted or unseen or unknown:
        raise ValueError(
            f"a predicted panoptic map contradicts its segments_info: ids only in the map {unlisted}, only in "
            f"segments_info {unseen} (0 is void), classes outside of 0 ... {num_classes - 1} {unknown}."
        )


def _size(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape))
