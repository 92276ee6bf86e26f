"""The images of a report: the worst, the best, and examples of each kind of mistake."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from detr_d2.evaluation.evaluation_folder import EvaluationFolder
from detr_d2.evaluation.report.analysis import Analysis, Example
from detr_d2.evaluation.report.kinds import KINDS
from detr_d2.evaluation.report.views import ImageViews, address_of

#: Examples of each kind of mistake.
EXAMPLES = 6
#: Images that are named for each class.
CLASS_IMAGES = 3
_CROP_MARGIN = 0.35
_LEAST_CROP = 120


class Gallery:
    """Chooses images and draws them.

    Args:
        folder: of the evaluation.
        analysis: of its records.
        count: so many of the worst and of the best images; 0 draws nothing.
    """

    def __init__(self, folder: EvaluationFolder, analysis: Analysis, count: int) -> None:
        self.folder, self.analysis = folder, analysis
        worst, best = worst_and_best(analysis.ranks, count)
        self._ranks = {"worst": worst, "best": best}
        self._examples: dict[str, list[Example]] = {kind: self._examples_of(kind) for kind in KINDS} if count else {}
        self._of_class = [_most_common(rows_of, CLASS_IMAGES) for rows_of in analysis.rows_of_class]
        rows = {rank["row"] for ranks in self._ranks.values() for rank in ranks}
        rows |= {row for pairs in self._of_class for row, _ in pairs}
        rows |= {example.row for examples in self._examples.values() for example in examples}
        self._records = {row: record for row, record in enumerate(folder.records()) if row in rows}

    def named(self) -> dict[str, list[dict[str, Any]]]:
        """The chosen images for ``report.json``: names and qualities, no pixels."""
        return {title: [self._name(rank["row"]) | rank for rank in ranks] for title, ranks in self._ranks.items()}

    def worst_of_classes(self) -> list[list[dict[str, Any]]]:
        """For each class the images with the most mistakes of that class."""
        return [[self._name(row) | {"mistakes": mistakes} for row, mistakes in pairs] for pairs in self._of_class]

    def drawn(self) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
        """As :meth:`named`, with their views as addresses; and for each kind of mistake views and captions of some.

        One image after the other, as the pixels of all would take hundreds of MiB.
        """
        named = self.named()
        ranked = {one["row"] for shown in named.values() for one in shown}
        examples = {(kind, one.row): one for kind, shown in self._examples.items() for one in shown}
        images: dict[int, dict[str, Any]] = {}
        parts: dict[tuple[str, int], dict[str, Any]] = {}
        for row in sorted(ranked | {row for _, row in examples}):
            record = self._records[row]
            views = ImageViews(record, self.folder.preview(record.image_id), self.folder.categories)
            if row in ranked:
                images[row] = _drawn(views)
            parts |= {key: self._example(views, one) for key, one in examples.items() if one.row == row}
        return (
            {title: [one | images[one["row"]] for one in shown] for title, shown in named.items()},
            {kind: [parts[kind, one.row] for one in shown] for kind, shown in self._examples.items() if shown},
        )

    def _examples_of(self, kind: str) -> list[Example]:
        """At most six: one a class, those with most mistakes first, then second ones; one of an image."""
        times = self.analysis.tally.of_class[kind]
        labels = sorted(np.flatnonzero(times).tolist(), key=lambda label: -times[label])
        waiting = [self.analysis.examples.get((kind, label), []) for label in labels]
        chosen: dict[int, Example] = {}
        for place in range(max(map(len, waiting), default=0)):
            for example in (examples[place] for examples in waiting if place < len(examples)):
                chosen.setdefault(example.row, example)
        return list(chosen.values())[:EXAMPLES]

    def _name(self, row: int) -> dict[str, Any]:
        record = self._records[row]
        name = os.path.basename(record.file_name)
        return {"row": row, "image_id": record.image_id, "name": name, "file_name": record.file_name}

    def _example(self, views: ImageViews, example: Example) -> dict[str, Any]:
        window = crop_window(views.where(example.mistake))
        name = os.path.basename(self._records[example.row].file_name)
        images = [("mistake", views.mistakes([example.mistake], named=False)), ("photo", views.photo)]
        return {
            "views": [(title, address_of(image[window])) for title, image in images],
            "caption": f"{views.name_of(example.mistake)} · {name}",
        }


def _drawn(views: ImageViews) -> dict[str, Any]:
    images = [(name, address_of(image)) for name, image in views.all()]
    return {"views": images, "height": views.size[0], "width": views.size[1]}


def worst_and_best(ranks: Sequence[dict[str, Any]], count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The images of least and of most quality, of ``Analysis.ranks``, at most ``count`` each; none is in both.

    Of equals, more mistakes are worse and more matches are better.
    """
    order = sorted(ranks, key=lambda one: (one["pq"], -one["wrong"] - one["lost"], one["right"], one["row"]))
    worst = order[: min(count, (len(order) + 1) // 2)]
    best = order[max(len(worst), len(order) - count) :]
    return worst, best[::-1]


def crop_window(mask: np.ndarray) -> tuple[slice, slice]:
    """The square around a mask (H, W) bool, with some margin and inside of the image; all of it for an empty mask."""
    if not mask.any():
        return slice(None), slice(None)
    ends = []
    for axis in (1, 0):
        places = np.flatnonzero(mask.any(axis=axis))
        ends.append((int(places[0]), int(places[-1]) + 1))
    side = max(_LEAST_CROP, *(int((last - first) * (1 + 2 * _CROP_MARGIN)) for first, last in ends))
    window = []
    for (first, last), whole in zip(ends, mask.shape):
        start = min(max((first + last - side) // 2, 0), max(whole - side, 0))
        window.append(slice(start, start + side))
    return window[0], window[1]


def _most_common(times: Counter[int], count: int) -> list[tuple[int, int]]:
    """The keys with the largest counts, of equals the lower key first."""
    return sorted(times.items(), key=lambda item: (-item[1], item[0]))[:count]
