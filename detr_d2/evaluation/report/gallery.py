"""The images of a report: the worst, the best, and examples of each kind of mistake."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detr_d2.evaluation.evaluation_folder import EvaluationFolder
from detr_d2.evaluation.report.analysis import Analysis
from detr_d2.evaluation.report.mistakes import KINDS
from detr_d2.evaluation.report.ranking import Example, ImageRank, worst_and_best
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
        self.worst, self.best = worst_and_best(analysis.results, count)
        self.examples = self._examples() if count else {}
        rows = {result.row for result in (*self.worst, *self.best)}
        self._of_class = [_most_common(rows_of, CLASS_IMAGES) for rows_of in analysis.rows_of_class]
        rows |= {row for pairs in self._of_class for row, _ in pairs}
        rows |= {example.row for examples in self.examples.values() for example in examples}
        self._records = {row: record for row, record in enumerate(folder.records()) if row in rows}
        self._views: dict[int, ImageViews] = {}

    def named(self) -> dict[str, list[dict[str, Any]]]:
        """The chosen images for ``report.json``: names and qualities, no pixels."""
        return {
            title: [self._about(result) for result in results]
            for title, results in (("worst", self.worst), ("best", self.best))
        }

    def worst_of_classes(self) -> list[list[dict[str, Any]]]:
        """For each class the images with the most mistakes of that class."""
        return [[self._name(row) | {"mistakes": mistakes} for row, mistakes in pairs] for pairs in self._of_class]

    def drawn_images(self) -> dict[str, list[dict[str, Any]]]:
        """The same, with their views as addresses."""
        return {
            title: [self._about(result) | self._drawn(result.row) for result in results]
            for title, results in (("worst", self.worst), ("best", self.best))
        }

    def drawn_examples(self) -> dict[str, list[dict[str, Any]]]:
        """For each kind of mistake, views and caption of some examples."""
        return {
            kind: [self._example(example) for example in examples]
            for kind, examples in self.examples.items()
            if examples
        }

    def _examples(self) -> Mapping[str, Sequence[Example]]:
        found = {}
        for kind in KINDS:
            times = self.analysis.tally.of_class[kind]
            labels = sorted(np.flatnonzero(times).tolist(), key=lambda label: -times[label])
            found[kind] = self.analysis.examples.of_kind(kind, labels, EXAMPLES)
        return found

    def _about(self, result: ImageRank) -> dict[str, Any]:
        return {
            **self._name(result.row),
            "pq": 100 * result.pq,
            **{"right": result.right, "wrong": result.wrong, "lost": result.lost},
            "kinds": {kind: result.kinds[kind] for kind in KINDS if result.kinds[kind]},
        }

    def _name(self, row: int) -> dict[str, Any]:
        record = self._records[row]
        name = os.path.basename(record.file_name)
        return {"row": row, "image_id": record.image_id, "name": name, "file_name": record.file_name}

    def _drawn(self, row: int) -> dict[str, Any]:
        views = self._views_of(row)
        images = [(name, address_of(image)) for name, image in views.all()]
        return {"views": images, "height": views.size[0], "width": views.size[1]}

    def _example(self, example: Example) -> dict[str, Any]:
        views = self._views_of(example.row)
        window = crop_window(views.where(example.mistake))
        name = os.path.basename(self._records[example.row].file_name)
        images = [("mistake", views.mistakes([example.mistake], named=False)), ("photo", views.photo)]
        return {
            "views": [(title, address_of(image[window])) for title, image in images],
            "caption": f"{views.name_of(example.mistake)} · {name}",
        }

    def _views_of(self, row: int) -> ImageViews:
        if row not in self._views:
            record = self._records[row]
            preview = self.folder.preview(record.image_id)
            self._views[row] = ImageViews(record, preview, self.folder.categories)
        return self._views[row]


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
