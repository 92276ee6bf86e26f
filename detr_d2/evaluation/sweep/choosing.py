"""Which of the thresholds that were tried to set, for all classes and for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detr_d2.data import Category
from detr_d2.evaluation.bootstrap import Differences, paired_differences
from detr_d2.evaluation.results import group_labels, group_means, percent
from detr_d2.evaluation.sweep.sweeping import Setting, SweepResult

#: A class with fewer true segments has the threshold of all: its own would be chance.
LEAST_SEGMENTS = 10


@dataclass(frozen=True)
class Choice:
    """The thresholds to set, and what speaks for them; qualities are parts of 1.

    Args:
        current, best: the setting that the model has, and the one with the highest PQ.
        differences: of the best one less the current one, over images.
        class_scores: a score threshold for each class, at the best overlap threshold.
        class_quality: PQ of each class at its own threshold (others at theirs may change it a little); NaN: absent.
        true_segments: of each class.
    """

    current: Setting
    best: Setting
    differences: Differences
    class_scores: list[float]
    class_quality: list[float]
    true_segments: list[int]


def choose(result: SweepResult, is_thing: Sequence[bool], current: Setting, resamples: int = 1000) -> Choice:
    """The settings with the highest PQ; of equal ones that nearest to the current one.

    Args:
        result: of the sweep, which has tried ``current`` as well.
        is_thing: for each class.
        current: the model's own.
        resamples: draws for the interval of the gain.
    """
    groups = group_labels(is_thing)
    means = [quality.average(groups["All"]).pq for quality in result.quality]
    places = range(len(result.settings))
    best = max(places, key=lambda i: (_or_least(means[i]), -_distance(result.settings[i], current)))
    before = result.settings.index(current)
    differences = paired_differences(result.quality[before], result.quality[best], groups, resamples)
    scores, qualities = _class_scores(result, result.settings[best], current)
    counts = result.quality[best]
    true = (counts.true_positives + counts.false_negatives).tolist()
    return Choice(current, result.settings[best], differences, scores, qualities, true)


def choice_as_json(result: SweepResult, choice: Choice, categories: Sequence[Category]) -> dict[str, Any]:
    """Everything in percent; null where there is nothing to judge."""
    is_thing = [category.is_thing for category in categories]
    settings = [
        {**setting._asdict(), **{name: percent(mean.pq) for name, mean in group_means(quality, is_thing).items()}}
        for setting, quality in zip(result.settings, result.quality)
    ]
    before = result.quality[result.settings.index(choice.current)]
    classes = [
        {
            **{"name": category.name, "true_segments": choice.true_segments[label]},
            **{"score": choice.class_scores[label], "PQ": percent(choice.class_quality[label])},
            "PQ_before": percent(before.of_class(label).pq),
        }
        for label, category in enumerate(categories)
    ]
    gain = 100 * choice.differences.groups["All"][0]
    return {
        **{"images": len(result.quality[0]), "settings": settings, "current": choice.current._asdict()},
        **{"best": choice.best._asdict(), "gain_interval": None if any(map(math.isnan, gain)) else gain.tolist()},
        "classes": classes,
    }


def mean_class_quality(choice: Choice) -> float:
    """Mean PQ of the classes at their own thresholds, if they don't disturb each other; NaN for none."""
    known = [value for value in choice.class_quality if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _class_scores(result: SweepResult, best: Setting, current: Setting) -> tuple[list[float], list[float]]:
    """For each class the score threshold with the highest PQ of that class, and this PQ."""
    tried = [i for i, setting in enumerate(result.settings) if setting.overlap == best.overlap]
    scores, qualities = [], []
    overall = result.quality[result.settings.index(best)]
    for label in range(overall.num_classes):
        place = result.settings.index(best)
        if overall.true_positives[label] + overall.false_negatives[label] >= LEAST_SEGMENTS:
            place = max(
                tried,
                key=lambda i: (_or_least(result.quality[i].of_class(label).pq), -_distance(result.settings[i], best)),
            )
        scores.append(result.settings[place].score)
        qualities.append(result.quality[place].of_class(label).pq)
    return scores, qualities


def _distance(setting: Setting, other: Setting) -> float:
    return abs(setting.score - other.score) + abs(setting.overlap - other.overlap)


def _or_least(value: float) -> float:
    return -1.0 if math.isnan(value) else value
