"""Which images are the worst and the best, and which show a kind of mistake well."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from detr_d2.evaluation.matching import ComparedImage
from detr_d2.evaluation.panoptic_quality import image_quality
from detr_d2.evaluation.report.mistakes import Mistake

#: So many examples of a kind and class are kept.
_KEPT = 4


@dataclass(frozen=True)
class ImageRank:
    """How good the prediction of one image is.

    Args:
        row: of the image among the records.
        pq: of this image alone, as a part of 1: the mean over the classes that are in it or were predicted.
        right, wrong, lost: matches, wrong predicted segments, true segments that weren't found.
        kinds: mistakes of each kind.
    """

    row: int
    pq: float
    right: int
    wrong: int
    lost: int
    kinds: Counter[str]


@dataclass(frozen=True)
class Example:
    """A mistake that can be shown: the row of its image, its class, the pixels of its segments, and itself."""

    row: int
    label: int
    pixels: int
    mistake: Mistake


def image_rank(row: int, image: ComparedImage, mistakes: Sequence[Mistake]) -> ImageRank | None:
    """The quality of one image; None where there is nothing to judge."""
    pq, matching = image_quality(image.counts().values()), image.matching
    if math.isnan(pq):
        return None
    kinds = Counter(mistake.kind for mistake in mistakes if mistake.kind != "loose_borders")
    return ImageRank(row, pq, len(matching.matches), len(matching.wrong), len(matching.missed), kinds)


def worst_and_best(results: Sequence[ImageRank], count: int) -> tuple[list[ImageRank], list[ImageRank]]:
    """The images of least and of most quality, at most ``count`` each; none is in both.

    Of equals, more mistakes are worse and more matches are better.
    """
    order = sorted(results, key=lambda result: (result.pq, -result.wrong - result.lost, result.right, result.row))
    worst = order[: min(count, (len(order) + 1) // 2)]
    best = order[max(len(worst), len(order) - count) :]
    return worst, best[::-1]


class Examples:
    """Keeps the largest mistakes of each kind and class, which are those that are seen best."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, int], list[Example]] = defaultdict(list)

    def add(self, row: int, image: ComparedImage, mistakes: Sequence[Mistake]) -> None:
        """Add an image's mistakes."""
        for mistake in mistakes:
            if mistake.kind == "loose_borders":
                continue
            pixels = sum(image.overlaps.true_areas[i] for i in mistake.true_ids)
            pixels = pixels or sum(image.overlaps.predicted_areas[i] for i in mistake.predicted_ids)
            label = mistake.changes[0].label
            kept = self._of[mistake.kind, label]
            kept.append(Example(row, label, pixels, mistake))
            if len(kept) > 2 * _KEPT:
                kept.sort(key=_largest_first)
                del kept[_KEPT:]

    def of_kind(self, kind: str, labels: Sequence[int], count: int) -> list[Example]:
        """At most ``count`` examples: one a class, in the order of ``labels``, then second ones; one of an image."""
        chosen: list[Example] = []
        waiting = [sorted(self._of.get((kind, label), []), key=_largest_first) for label in labels]
        for place in range(_KEPT):
            for examples in waiting:
                shown = {example.row for example in chosen}
                if place < len(examples) and examples[place].row not in shown:
                    chosen.append(examples[place])
                if len(chosen) == count:
                    return chosen
        return chosen


def _largest_first(example: Example) -> tuple[int, int]:
    return -example.pixels, example.row
