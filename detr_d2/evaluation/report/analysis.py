"""Everything that the report says about the images, gathered in one pass over the evaluation's records."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.evaluation.bootstrap import bootstrap_intervals
from detr_d2.evaluation.matching import ComparedImage
from detr_d2.evaluation.measures import PanopticMeasures
from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.panoptic_quality import image_quality
from detr_d2.evaluation.records import EvaluationRecord, finite
from detr_d2.evaluation.report.mistakes import KINDS, LOOSE_BORDERS, Gain, Mistake, MistakeTally, find_mistakes
from detr_d2.evaluation.results import group_labels, measures_as_json

#: Bins of a score between 0 and 1; narrow ones, as segments below the score threshold are never seen.
BINS = 20
#: So many examples of a kind and class are kept.
_KEPT = 4


class Example(NamedTuple):
    """A mistake that can be shown: the pixels of its segments, the row of its image, and itself."""

    pixels: int
    row: int
    mistake: Mistake


class GroundTruthCounts:
    """Counts the true segments, image by image.

    Args:
        num_classes: contiguous class ids are 0 ... num_classes - 1.
    """

    def __init__(self, num_classes: int) -> None:
        self.pixels, self.void_pixels = 0, 0
        #: Of each class: segments, images, crowds, and pixels of the segments.
        self.classes = np.zeros((4, num_classes), np.int64)
        self.areas: list[int] = []
        self.segments_of_image: list[int] = []

    def add(self, image: ComparedImage) -> None:
        """Add an image."""
        areas, labels = image.overlaps.true_areas, list(image.true_class.values())
        own = [areas[i] for i in image.true_class]
        self.pixels += sum(areas.values())
        self.void_pixels += areas.get(VOID, 0)
        self.segments_of_image.append(len(labels))
        self.areas += own
        segments, images, crowds, pixels = self.classes
        np.add.at(segments, labels, 1)
        np.add.at(pixels, labels, own)
        np.add.at(crowds, list(image.crowd_class.values()), 1)
        images[list(set(labels))] += 1

    def as_json(self) -> dict[str, Any]:
        """Of the whole; areas are quantiles (0, ¼, ½, ¾, 1) in pixels."""
        segments, _, crowds, _ = self.classes.sum(axis=1).tolist()
        return {
            "images": len(self.segments_of_image),
            "segments": segments,
            "crowds": crowds,
            "void_share": self.void_pixels / self.pixels if self.pixels else None,
            "classes_present": int((self.classes[0] > 0).sum()),
            "segments_per_image": _quantiles(self.segments_of_image),
            "areas": _quantiles(self.areas),
        }

    def of_class(self, label: int) -> dict[str, Any]:
        """Of one class; ``pixel_share`` is of all pixels."""
        segments, images, crowds, pixels = self.classes[:, label].tolist()
        share = pixels / self.pixels if self.pixels else 0.0
        return {"true_segments": segments, "images": images, "crowds": crowds, "pixel_share": share}


def _quantiles(values: list[int]) -> list[float] | None:
    """Least, lower quarter, middle, upper quarter and largest; None of nothing."""
    return [float(value) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])] if values else None


class Reliability:
    """How often predicted segments are right, by their score; those that panoptic quality ignores don't count."""

    def __init__(self) -> None:
        #: Of each bin: segments, those that are right, and the sum of the scores.
        self.bins = np.zeros((3, BINS))

    def add(self, score: float, is_right: bool) -> None:
        """Add a predicted segment: its score, in 0 ... 1, and whether it is a match."""
        self.bins[:, min(int(score * BINS), BINS - 1)] += (1, is_right, score)

    def as_json(self) -> dict[str, Any]:
        """Everything, in parts of 1; bins that hold nothing are left out.

        "ece" is the expected calibration error, the mean distance of score and share of right ones; "overconfidence"
        the mean score less the share of right ones; None of nothing.
        """
        count, right, score = self.bins
        total, excess = int(count.sum()), score - right
        bins = [
            {
                **{"from": place / BINS, "to": (place + 1) / BINS, "segments": int(count[place])},
                **{"score": float(score[place] / count[place]), "right": float(right[place] / count[place])},
            }
            for place in np.flatnonzero(count).tolist()
        ]
        return {
            "segments": total,
            "ece": float(np.abs(excess).sum() / total) if total else None,
            "overconfidence": float((score.sum() - right.sum()) / total) if total else None,
            "bins": bins,
        }


class Analysis:
    """Sums over images, and the little that is kept of each.

    Args:
        records: of all images.
        categories: by contiguous class.
    """

    def __init__(self, records: Iterable[EvaluationRecord], categories: Sequence[Category]) -> None:
        num_classes = len(categories)
        self.categories = list(categories)
        self.is_thing = [category.is_thing for category in categories]
        self.measures = PanopticMeasures(self.is_thing)
        self.tally = MistakeTally(num_classes)
        self.counts = GroundTruthCounts(num_classes)
        self.reliability = {"All": Reliability(), "Things": Reliability(), "Stuff": Reliability()}
        #: The largest mistakes by kind and class, which are those that are seen best, the largest first.
        self.examples: dict[tuple[str, int], list[Example]] = {}
        #: Of each image its "row", its own "pq" in percent, the matches ("right"), the wrong predicted segments, the
        #: true ones that were "lost", and its mistakes by "kinds".
        self.ranks: list[dict[str, Any]] = []
        #: For each class, the mistakes in each image (its row) that has some.
        self.rows_of_class: list[Counter[int]] = [Counter() for _ in categories]
        self.empty_predictions = 0
        for row, record in enumerate(records):
            self._add(row, record)

    def _add(self, row: int, record: EvaluationRecord) -> None:
        image = record.compared
        mistakes = find_mistakes(image)
        self.measures.add(record)
        self.tally.add(mistakes, image)
        self.counts.add(image)
        self.empty_predictions += not image.predicted_class
        self._add_scores(image, record.scores)
        shown = [mistake for mistake in mistakes if mistake.kind != LOOSE_BORDERS]
        for mistake in shown:
            self._add_example(row, image, mistake)
            for change in mistake.changes:
                self.rows_of_class[change.label][row] += 1
        pq, matching = image_quality(image.counts().values()), image.matching
        if not math.isnan(pq):
            times = Counter(mistake.kind for mistake in shown)
            counts = {"right": len(matching.matches), "wrong": len(matching.wrong), "lost": len(matching.missed)}
            kinds = {kind: times[kind] for kind in KINDS if times[kind]}
            self.ranks.append({"row": row, "pq": 100 * pq, **counts, "kinds": kinds})

    def _add_example(self, row: int, image: ComparedImage, mistake: Mistake) -> None:
        pixels = sum(image.overlaps.true_areas[i] for i in mistake.true_ids)
        pixels = pixels or sum(image.overlaps.predicted_areas[i] for i in mistake.predicted_ids)
        key = mistake.kind, mistake.changes[0].label
        known = [*self.examples.get(key, ()), Example(pixels, row, mistake)]
        self.examples[key] = heapq.nsmallest(_KEPT, known, key=lambda one: (-one.pixels, one.row))

    def _add_scores(self, image: ComparedImage, scores: dict[int, float | None]) -> None:
        for predicted_id, score in scores.items():
            if score is not None and predicted_id not in image.matching.ignored:
                kind = "Things" if self.is_thing[image.predicted_class[predicted_id]] else "Stuff"
                for reliability in (self.reliability["All"], self.reliability[kind]):
                    reliability.add(score, predicted_id in image.matching.matches)

    def as_json(self, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
        """The numbers, in percent where they are qualities; None where there is nothing to judge.

        Keys: those of ``panoptic_quality.json``, see ``measures_as_json``, with intervals; "mistakes", "confusions",
        "reliability", "ground_truth" and so on.
        """
        quality = self.measures.quality
        gains = {kind: self.tally.gain(quality, kind, self.is_thing) for kind in KINDS}
        intervals = None
        if resamples and len(quality):
            intervals = bootstrap_intervals(quality, group_labels(self.is_thing), resamples, seed)
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
        mistakes = {kind: int(self.tally.of_class[kind][label]) for kind in KINDS if kind != LOOSE_BORDERS}
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
            "count": int(by_class.sum()),
            "gives_back": {name: finite(value) for name, value in gain.groups.items()},
            "classes": {self.categories[label].name: int(by_class[label]) for label in order if by_class[label]},
        }

    def _confusions(self) -> list[dict[str, Any]]:
        """Every pair of true and predicted class, the most frequent first; "of" is the class's true segments."""
        pairs = sorted(self.tally.confusions.items(), key=lambda item: (-item[1], item[0]))
        return [
            {
                **{"true": self.categories[true].name, "predicted": self.categories[predicted].name, "count": count},
                **{"of": int(self.counts.classes[0, true]), "true_class": true, "predicted_class": predicted},
            }
            for (true, predicted), count in pairs
        ]
