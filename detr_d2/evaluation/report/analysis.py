"""Everything that the report says about the images, gathered in one pass over the evaluation's records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from detr_d2.data.categories import Category
from detr_d2.evaluation.bootstrap import Intervals, bootstrap_intervals
from detr_d2.evaluation.matching import ComparedImage
from detr_d2.evaluation.measures import PanopticMeasures
from detr_d2.evaluation.records import EvaluationRecord, finite
from detr_d2.evaluation.report.counts import Reliability, TruthCounts
from detr_d2.evaluation.report.fixes import Gain, MistakeTally
from detr_d2.evaluation.report.mistakes import KINDS, find_mistakes
from detr_d2.evaluation.report.ranking import Examples, ImageRank, image_rank
from detr_d2.evaluation.results import group_labels, measures_as_json


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
        self.counts = TruthCounts(num_classes)
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
        "reliability", "truth" and so on.
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
            "truth": self.counts.as_json(),
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
