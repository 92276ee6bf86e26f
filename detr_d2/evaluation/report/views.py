"""One picture as the report shows it: photo, truth, prediction, and what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.data.segments import read_panoptic_png
from detr_d2.errors import UserError
from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.report import painting
from detr_d2.evaluation.report.mistakes import Findings, Mistake
from detr_d2.evaluation.report.scene import Scene
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


@dataclass(frozen=True)
class PictureFiles:
    """Where the parts of a picture are.

    Args:
        photo: path of the photo.
        truth: path of the panoptic PNG.
        height, width: of the photo.
        preview: (h, w) integers, the prediction at a size of its own: 0 is void, else 1 + place in ``predicted_ids``;
            None where it wasn't kept.
        predicted_ids: the predicted segments' ids, in the preview's order.
    """

    photo: str
    truth: str
    height: int
    width: int
    preview: np.ndarray | None
    predicted_ids: Sequence[int]


class PictureViews:
    """Draws the views of one picture.

    Args:
        files: of the picture; of those that can't be read nothing is drawn.
        scene: its segments.
        findings: its mistakes.
        scores: of the predicted segments, by id.
        categories: by contiguous class.
    """

    def __init__(
        self,
        files: PictureFiles,
        scene: Scene,
        findings: Findings,
        scores: Mapping[int, float | None],
        categories: Sequence[Category],
    ) -> None:
        self.scene, self.findings, self.scores, self.categories = scene, findings, scores, categories
        self.size = painting.view_size(files.height, files.width)
        self.photo = self._photo(files)
        self.true_map = self._true_map(files)
        self.predicted_map = self._predicted_map(files)

    def all(self) -> list[tuple[str, np.ndarray]]:
        """Name and picture (H, W, 3) uint8 of each view that can be drawn: photo, truth, prediction, mistakes."""
        views = [("photo", self.photo)]
        if self.true_map is not None:
            views.append(("truth", self._segments(self.true_map, self.scene.true_class, {})))
        if self.predicted_map is not None:
            views.append(("prediction", self._segments(self.predicted_map, self.scene.predicted_class, self.scores)))
        if self.true_map is not None and self.predicted_map is not None:
            mistakes = [mistake for mistake in self.findings.mistakes if mistake.kind != "loose_borders"]
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
        true = [self._class_name(self.scene.true_class[i]) for i in mistake.true_ids[:1]]
        predicted = [self._class_name(self.scene.predicted_class[i]) for i in mistake.predicted_ids[:1]]
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

    def _photo(self, files: PictureFiles) -> np.ndarray:
        try:
            return painting.resized(read_whole_image(files.photo, "RGB"), self.size)
        except Exception as error:  # decoders raise whatever they like on broken files
            reason = reading_error(files.photo, error)
            logger.warning("The photo %s can't be read (%s); the report shows a grey ground.", files.photo, reason)
            return np.full((*self.size, 3), _GROUND, dtype=np.uint8)

    def _true_map(self, files: PictureFiles) -> np.ndarray | None:
        try:
            return painting.resized_map(read_panoptic_png(files.truth), self.size)
        except (OSError, UserError) as error:
            logger.warning("The truth %s can't be read (%s); the report leaves it out.", files.truth, error)
            return None

    def _predicted_map(self, files: PictureFiles) -> np.ndarray | None:
        if files.preview is None:
            return None
        ids = np.array([VOID, *files.predicted_ids], dtype=np.int64)
        return ids[painting.resized_map(files.preview, self.size)]
