"""Everything that the report says about the images, gathered in one pass over the evaluation's records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.evaluation.bootstrap import Intervals, bootstrap_intervals
from detr_d2.evaluation.matching import ComparedImage
from detr_d2.evaluation.measures import PanopticMeasures
from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.records import EvaluationRecord, finite
from detr_d2.evaluation.report.mistakes import KINDS, Gain, MistakeTally, find_mistakes
from detr_d2.evaluation.report.ranking import Examples, ImageRank, image_rank
from detr_d2.evaluation.results import group_labels, measures_as_json

#: Bins of a score between 0 and 1; narrow ones, as segments below the score threshold are never seen.
BINS = 20


class GroundTruthCounts:
    """Counts the true segments, image by image.

    Args:
        num_classes: contiguous class ids are 0 ... num_classes - 1.
    """

    def __init__(self, num_classes: int) -> None:
        self.images = 0
        self.pixels, self.void_pixels, self.crowds = 0, 0, 0
        self.class_segments, self.class_images, self.class_pixels, self.class_crowds = (
            np.zeros(num_classes, np.int64) for _ in range(4)
        )
        self.areas: list[int] = []
        self.segments_of_image: list[int] = []

    def add(self, image: ComparedImage) -> None:
        """Add an image."""
        areas = image.overlaps.true_areas
        self.images += 1
        self.pixels += sum(areas.values())
        self.void_pixels += areas.get(VOID, 0)
        self.crowds += len(image.crowd_class)
        self.segments_of_image.append(len(image.true_class))
        self.areas += [areas[i] for i in image.true_class]
        for true_id, label in image.true_class.items():
            self.class_segments[label] += 1
            self.class_pixels[label] += areas[true_id]
        for label in image.crowd_class.values():
            self.class_crowds[label] += 1
        for label in set(image.true_class.values()):
            self.class_images[label] += 1

    def as_json(self) -> dict[str, Any]:
        """Of the whole; areas are quantiles (0, ¼, ½, ¾, 1) in pixels."""
        return {
            "images": self.images,
            "segments": int(self.class_segments.sum()),
            "crowds": self.crowds,
            "void_share": self.void_pixels / self.pixels if self.pixels else None,
            "classes_present": int((self.class_segments > 0).sum()),
            "segments_per_image": quantiles(self.segments_of_image),
            "areas": quantiles(self.areas),
        }

    def of_class(self, label: int) -> dict[str, Any]:
        """Of one class; ``pixel_share`` is of all pixels."""
        return {
            "true_segments": int(self.class_segments[label]),
            "images": int(self.class_images[label]),
            "crowds": int(self.class_crowds[label]),
            "pixel_share": float(self.class_pixels[label] / self.pixels) if self.pixels else 0.0,
        }


def quantiles(values: list[int]) -> list[float] | None:
    """Least, lower quarter, middle, upper quarter and largest; None of nothing."""
    return [float(value) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])] if values else None


@dataclass
class Reliability:
    """How often predicted segments are right, by their score; those that panoptic quality ignores don't count."""

    count: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    right: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    score: np.ndarray = field(default_factory=lambda: np.zeros(BINS))

    def add(self, segments: Iterable[tuple[float, bool]]) -> None:
        """Add predicted segments: the score, in 0 ... 1, and whether it is a match."""
        for score, is_right in segments:
            place = min(int(score * BINS), BINS - 1)
            self.count[place] += 1
            self.right[place] += is_right
            self.score[place] += score

    def ece(self) -> float:
        """Expected calibration error: mean distance of score and share of right ones, in parts of 1; NaN if empty."""
        total = int(self.count.sum())
        return float(np.abs(self.right - self.score).sum() / total) if total else float("nan")

    def overconfidence(self) -> float:
        """Mean score less the share of right ones; NaN if empty."""
        total = int(self.count.sum())
        return float((self.score.sum() - self.right.sum()) / total) if total else float("nan")

    def as_json(self) -> dict[str, Any]:
        """Everything, in parts of 1; bins that hold nothing are left out."""
        bins = [
            {
                **{"from": place / BINS, "to": (place + 1) / BINS, "segments": int(self.count[place])},
                "score": float(self.score[place] / self.count[place]),
                "right": float(self.right[place] / self.count[place]),
            }
            for place in np.flatnonzero(self.count).tolist()
        ]
        known = bool(self.count.any())
        return {
            "segments": int(self.count.sum()),
            "ece": self.ece() if known else None,
            "overconfidence": self.overconfidence() if known else None,
            "bins": bins,
        }


class Analysis:
    """Sums over images, and the little that is kept of each.

    Args:
        categories: by contiguous class.
    """

    def __init__(self, categories: Sequence[Category]) -> None:
        num_classes = len(categories)
        self.categories = list(categories)
        self.is_thing = [category.is_thing for category in categories]
        self.measures = PanopticMeasures(self.is_thing)
        self.tally = MistakeTally(num_classes)
        self.counts = GroundTruthCounts(num_classes)
        self.reliability = {"All": Reliability(), "Things": Reliability(), "Stuff": Reliability()}
        self.examples = Examples()
        self.results: list[ImageRank] = []
        #: For each class, the mistakes in each image (its row) that has some.
        self.rows_of_class: list[Counter[int]] = [Counter() for _ in categories]
        self.empty_predictions = 0

    def add(self, row: int, record: EvaluationRecord) -> None:
        """Add an image; ``row`` is its place among the records."""
        image = record.compared
        mistakes = find_mistakes(image)
        self.measures.add(record)
        self.tally.add(mistakes, image)
        self.counts.add(image)
        self.examples.add(row, image, mistakes)
        self.empty_predictions += not image.predicted_class
        self._add_scores(image, record.scores)
        for mistake in mistakes:
            if mistake.kind != "loose_borders":
                for change in mistake.changes:
                    self.rows_of_class[change.label][row] += 1
        result = image_rank(row, image, mistakes)
        if result is not None:
            self.results.append(result)

    def _add_scores(self, image: ComparedImage, scores: dict[int, float | None]) -> None:
        for predicted_id, score in scores.items():
            if score is not None and predicted_id not in image.matching.ignored:
                segment = [(score, predicted_id in image.matching.matches)]
                kind = "Things" if self.is_thing[image.predicted_class[predicted_id]] else "Stuff"
                self.reliability["All"].add(segment)
                self.reliability[kind].add(segment)

    def intervals(self, resamples: int, seed: int) -> Intervals | None:
        """Bootstrap intervals; None where there is no image or none are wanted."""
        quality = self.measures.quality
        if not resamples or not len(quality):
            return None
        return bootstrap_intervals(quality, group_labels(self.is_thing), resamples, seed)

    def as_json(self, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
        """The numbers, in percent where they are qualities; None where there is nothing to judge.

        Keys: those of ``panoptic_quality.json``, see ``measures_as_json``, with intervals; "mistakes", "confusions",
        "reliability", "ground_truth" and so on.
        """
        quality = self.measures.quality
        gains = {kind: self.tally.gain(quality, kind, self.is_thing) for kind in KINDS}
        intervals = self.intervals(resamples, seed)
        content = measures_as_json(self.measures, self.categories, intervals)
        for label, entry in enumerate(content["classes"]):
            entry |= self._of_class(label, gains)
        for size, of_size in self.measures.of_size.items():
            _, found, wrong, missed = of_size.totals.sum(axis=1).astype(int).tolist()
            content["sizes"][size] |= {"true_segments": found + missed, "found": found, "wrong": wrong}
        about = None if intervals is None else {**content["intervals"], "seed": seed}
        return content | {
            "intervals": about,
            "mistakes": [self._of_kind(kind, gains[kind]) for kind in KINDS],
            "ignored_on_void": int(self.tally.ignored.sum()),
            "confusions": self._confusions(),
            "reliability": {name: reliability.as_json() for name, reliability in self.reliability.items()},
            "ground_truth": self.counts.as_json(),
            "empty_predictions": self.empty_predictions,
        }

    def _of_class(self, label: int, gains: dict[str, Gain]) -> dict[str, Any]:
        mistakes = {kind: int(self.tally.of_class[kind][label]) for kind in KINDS if kind != "loose_borders"}
        return {
            **{"color": list(self.categories[label].color), **self.counts.of_class(label)},
            **{"ignored_on_void": int(self.tally.ignored[label]), "mistakes": mistakes},
            "gives_back": {kind: finite(gains[kind].classes[label]) for kind in KINDS},
        }

    def _of_kind(self, kind: str, gain: Gain) -> dict[str, Any]:
        by_class = self.tally.of_class[kind]
        order = sorted(range(len(by_class)), key=lambda label: (-by_class[label], label))
        return {
            "kind": kind,
            "count": self.tally.mistakes[kind],
            "gives_back": {name: finite(value) for name, value in gain.groups.items()},
            "classes": {self.categories[label].name: int(by_class[label]) for label in order if by_class[label]},
        }

    def _confusions(self) -> list[dict[str, Any]]:
        """Every pair of true and predicted class, the most frequent first; "of" is the class's true segments."""
        pairs = sorted(self.tally.confusions.items(), key=lambda item: (-item[1], item[0]))
        return [
            {
                **{"true": self.categories[true].name, "predicted": self.categories[predicted].name, "count": count},
                **{"of": int(self.counts.class_segments[true]), "true_class": true, "predicted_class": predicted},
            }
            for (true, predicted), count in pairs
        ]


def analyse(records: Iterable[EvaluationRecord], categories: Sequence[Category]) -> Analysis:
    """Looks at every image."""
    analysis = Analysis(categories)
    for row, record in enumerate(records):
        analysis.add(row, record)
    return analysis
