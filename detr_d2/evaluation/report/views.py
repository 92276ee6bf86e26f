"""One image as the report shows it: photo, truth, prediction, and what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.data.segments import read_panoptic_png
from detr_d2.errors import UserError
from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.records import EvaluationRecord
from detr_d2.evaluation.report import painting
from detr_d2.evaluation.report.mistakes import Mistake, find_mistakes
from detr_d2.labels.image_reading import read_whole_image, reading_error

logger = logging.getLogger(__name__)

#: What was predicted wrongly, what wasn't found, and what is both; apart for people who don't see red and green.
PREDICTED, LOST, BOTH = (230, 85, 13), (33, 113, 181), (129, 54, 160)
_GROUND = 128
_NAMES = {
    "split": "{true}, in parts",
    "merged": "{true}, merged",
    "poorly_cut": "{true}, poorly cut",
    "duplicate": "second {predicted}",
    "on_void": "{predicted} on void",
    "made_up": "{predicted}, made up",
    "missed": "{true}, missed",
    "wrong_class": "{true}, called {predicted}",
}


class ImageViews:
    """Draws the views of one image.

    Args:
        record: of its evaluation; of files that can't be read nothing is drawn.
        preview: (h, w) integers, the prediction at a size of its own: 0 is void, else 1 + the place of a segment; None
            where it wasn't kept. One of another prediction isn't shown.
        categories: by contiguous class.
    """

    def __init__(
        self,
        record: EvaluationRecord,
        preview: np.ndarray | None,
        categories: Sequence[Category],
    ) -> None:
        self.image, self.scores, self.categories = record.compared, record.scores, categories
        self.size = painting.view_size(record.height, record.width)
        self.photo = self._photo(record.file_name)
        self.true_map = self._true_map(record.pan_seg_file_name)
        self.predicted_map = self._predicted_map(record, preview)

    def all(self) -> list[tuple[str, np.ndarray]]:
        """Name and image (H, W, 3) uint8 of each view that can be drawn: photo, truth, prediction, mistakes."""
        views = [("photo", self.photo)]
        if self.true_map is not None:
            views.append(("truth", self._segments(self.true_map, self.image.true_class, {})))
        if self.predicted_map is not None:
            views.append(("prediction", self._segments(self.predicted_map, self.image.predicted_class, self.scores)))
        if self.true_map is not None and self.predicted_map is not None:
            mistakes = [mistake for mistake in find_mistakes(self.image) if mistake.kind != "loose_borders"]
            views.append(("mistakes", self.mistakes(mistakes)))
        return views

    def mistakes(self, mistakes: Sequence[Mistake], named: bool = True) -> np.ndarray:
        """The photo in grey, with what was predicted wrongly, what wasn't found, and where both are."""
        ground = painting.greyed(self.photo)
        if self.true_map is None or self.predicted_map is None:
            return ground
        lost = np.isin(self.true_map, [i for mistake in mistakes for i in mistake.true_ids])
        wrong = np.isin(self.predicted_map, [i for mistake in mistakes for i in mistake.predicted_ids])
        drawn = painting.colored(ground, lost + 2 * wrong, {1: LOST, 2: PREDICTED, 3: BOTH}, alpha=0.6)
        drawn = painting.bordered(drawn, self.true_map * lost, (220, 235, 255))
        drawn = painting.bordered(drawn, self.predicted_map * wrong, (255, 240, 220))
        if not named:
            return drawn
        masks = [self.where(mistake) for mistake in mistakes]
        order = sorted(range(len(mistakes)), key=lambda i: -int(masks[i].sum()))
        order = [i for i in order if masks[i].any()]
        return painting.named(drawn, [self.name_of(mistakes[i]) for i in order], [masks[i] for i in order])

    def where(self, mistake: Mistake) -> np.ndarray:
        """(H, W) bool: the segments that a mistake is made of."""
        mask = np.zeros(self.size, dtype=bool)
        if self.true_map is not None:
            mask |= np.isin(self.true_map, mistake.true_ids)
        if self.predicted_map is not None:
            mask |= np.isin(self.predicted_map, mistake.predicted_ids)
        return mask

    def name_of(self, mistake: Mistake) -> str:
        """A mistake in a few words."""
        true = [self._class_name(self.image.true_class[i]) for i in mistake.true_ids[:1]]
        predicted = [self._class_name(self.image.predicted_class[i]) for i in mistake.predicted_ids[:1]]
        return _NAMES[mistake.kind].format(true="".join(true), predicted="".join(predicted))

    def _class_name(self, label: int) -> str:
        return self.categories[label].name

    def _segments(self, ids: np.ndarray, label_of: Mapping[int, int], scores: Mapping[int, float | None]) -> np.ndarray:
        colors = {i: self.categories[label].color for i, label in label_of.items()}
        drawn = painting.bordered(painting.colored(self.photo, ids, colors), ids)
        masks = {i: ids == i for i in label_of}
        order = sorted((i for i in masks if masks[i].any()), key=lambda i: -int(masks[i].sum()))
        texts = [
            self._class_name(label_of[i]) + ("" if scores.get(i) is None else f" {100 * (scores[i] or 0):.0f}")
            for i in order
        ]
        return painting.named(drawn, texts, [masks[i] for i in order])

    def _photo(self, path: str) -> np.ndarray:
        try:
            return painting.resized(read_whole_image(path, "RGB"), self.size)
        except Exception as error:  # decoders raise whatever they like on broken files
            reason = reading_error(path, error)
            logger.warning("The photo %s can't be read (%s); the report shows a grey ground.", path, reason)
            return np.full((*self.size, 3), _GROUND, dtype=np.uint8)

    def _true_map(self, path: str) -> np.ndarray | None:
        try:
            return painting.resized_map(read_panoptic_png(path), self.size)
        except (OSError, UserError) as error:
            logger.warning("The truth %s can't be read (%s); the report leaves it out.", path, error)
            return None

    def _predicted_map(self, record: EvaluationRecord, preview: np.ndarray | None) -> np.ndarray | None:
        ids = np.array([VOID, *(segment["id"] for segment in record.predicted)], dtype=np.int64)
        if preview is None or preview.ndim != 2 or not preview.size or preview.min() < 0 or preview.max() >= len(ids):
            return None
        return ids[painting.resized_map(preview, self.size)]
