"""One image as the report shows it: photo, ground truth, prediction, and what is wrong."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from detr_d2.data.categories import Category
from detr_d2.data.segments import read_panoptic_png
from detr_d2.errors import UserError
from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.records import EvaluationRecord
from detr_d2.evaluation.report.kinds import KINDS, LOOSE_BORDERS
from detr_d2.evaluation.report.mistakes import Mistake, find_mistakes
from detr_d2.labels.image_reading import read_whole_image, reading_error
from detr_d2.pages import data_uri
from detr_d2.visualization.label_layout import drawn_name, place_labels
from detr_d2.visualization.strokes import draw_borders, number_segments, paint_segments, write_texts

Color = tuple[int, int, int]

logger = logging.getLogger(__name__)

#: What was predicted wrongly, what wasn't found, and what is both; apart for people who don't see red and green.
PREDICTED, LOST, BOTH = (230, 85, 13), (33, 113, 181), (129, 54, 160)
_GROUND, _OPACITY = 128, 0.55
#: The long side of an image in the page, in pixels.
LONG_SIDE = 640
_FONT_PIXELS = 14
#: Names are placed on a map so many times smaller.
_STRIDE = 4


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
        self.size = view_size(record.height, record.width)
        self.photo = self._photo(record.file_name)
        self.true_map = self._true_map(record.pan_seg_file_name)
        self.predicted_map = self._predicted_map(record, preview)

    def all(self) -> list[tuple[str, np.ndarray]]:
        """Name and image (H, W, 3) uint8 of each view that can be drawn: photo, ground truth, prediction, mistakes."""
        views = [("photo", self.photo)]
        if self.true_map is not None:
            views.append(("ground truth", self._segments(self.true_map, self.image.true_class, {})))
        if self.predicted_map is not None:
            views.append(("prediction", self._segments(self.predicted_map, self.image.predicted_class, self.scores)))
        if self.true_map is not None and self.predicted_map is not None:
            mistakes = [mistake for mistake in find_mistakes(self.image) if mistake.kind != LOOSE_BORDERS]
            views.append(("mistakes", self.mistakes(mistakes)))
        return views

    def mistakes(self, mistakes: Sequence[Mistake], named: bool = True) -> np.ndarray:
        """The photo in grey, with what was predicted wrongly, what wasn't found, and where both are."""
        ground = greyed(self.photo)
        if self.true_map is None or self.predicted_map is None:
            return ground
        lost = np.isin(self.true_map, [i for mistake in mistakes for i in mistake.true_ids])
        wrong = np.isin(self.predicted_map, [i for mistake in mistakes for i in mistake.predicted_ids])
        drawn = _tinted(ground, lost + 2 * wrong, {1: LOST, 2: PREDICTED, 3: BOTH}, 0.6)
        drawn = draw_borders(drawn, self.true_map * lost, 1, (220, 235, 255))
        drawn = draw_borders(drawn, self.predicted_map * wrong, 1, (255, 240, 220))
        if not named:
            return drawn
        masks = [self.where(mistake) for mistake in mistakes]
        order = sorted(range(len(mistakes)), key=lambda i: -int(masks[i].sum()))
        order = [i for i in order if masks[i].any()]
        return _named(drawn, [self.name_of(mistakes[i]) for i in order], [masks[i] for i in order])

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
        return KINDS[mistake.kind].caption.format(true="".join(true), predicted="".join(predicted))

    def _class_name(self, label: int) -> str:
        return self.categories[label].name

    def _segments(self, ids: np.ndarray, label_of: Mapping[int, int], scores: Mapping[int, float | None]) -> np.ndarray:
        colors = {i: self.categories[label].color for i, label in label_of.items()}
        drawn = draw_borders(_tinted(self.photo, ids, colors, _OPACITY), ids, 1)
        masks = {i: ids == i for i in label_of}
        order = sorted((i for i in masks if masks[i].any()), key=lambda i: -int(masks[i].sum()))
        texts = [
            self._class_name(label_of[i]) + ("" if scores.get(i) is None else f" {100 * (scores[i] or 0):.0f}")
            for i in order
        ]
        return _named(drawn, texts, [masks[i] for i in order])

    def _photo(self, path: str) -> np.ndarray:
        try:
            return resized(read_whole_image(path, "RGB"), self.size)
        except Exception as error:  # decoders raise whatever they like on broken files
            reason = reading_error(path, error)
            logger.warning("The photo %s can't be read (%s); the report shows a grey ground.", path, reason)
            return np.full((*self.size, 3), _GROUND, dtype=np.uint8)

    def _true_map(self, path: str) -> np.ndarray | None:
        try:
            return resized_map(read_panoptic_png(path), self.size)
        except (OSError, UserError) as error:
            logger.warning("The ground truth %s can't be read (%s); the report leaves it out.", path, error)
            return None

    def _predicted_map(self, record: EvaluationRecord, preview: np.ndarray | None) -> np.ndarray | None:
        ids = np.array([VOID, *(segment["id"] for segment in record.predicted)], dtype=np.int64)
        if preview is None or preview.ndim != 2 or not preview.size or preview.min() < 0 or preview.max() >= len(ids):
            return None
        return ids[resized_map(preview, self.size)]


def view_size(height: int, width: int, long_side: int = LONG_SIDE) -> tuple[int, int]:
    """Height and width at which an image is shown: large ones shrunk, small ones enlarged by a whole factor."""
    longest = max(height, width)
    scale = long_side / longest if longest > long_side else long_side // longest
    return max(round(height * scale), 1), max(round(width * scale), 1)


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A photo (H, W, 3) uint8 at another height and width, smoothly."""
    shown = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(shown.resize((size[1], size[0]), Image.Resampling.BICUBIC, reducing_gap=3.0))


def resized_map(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map of ids (H, W) at another height and width: each pixel has the id of the nearest one."""
    rows = ((np.arange(size[0]) + 0.5) * ids.shape[0] / size[0]).astype(np.int64)
    columns = ((np.arange(size[1]) + 0.5) * ids.shape[1] / size[1]).astype(np.int64)
    return ids[rows[:, None], columns]


def _tinted(photo: np.ndarray, ids: np.ndarray, colors: Mapping[int, Color], opacity: float) -> np.ndarray:
    """The photo with each segment that has a colour, RGB in 0..255, tinted in it."""
    parts = [(red / 255, green / 255, blue / 255) for red, green, blue in colors.values()]
    return paint_segments(photo, number_segments(ids, list(colors)), parts, opacity)


def _named(photo: np.ndarray, texts: Sequence[str], masks: Sequence[np.ndarray]) -> np.ndarray:
    """The photo with a text on each mask (H, W) bool, where there is room; the first ones first."""
    small = [mask[::_STRIDE, ::_STRIDE] for mask in masks]
    shown = [drawn_name(text) for text in texts]
    places = place_labels(shown, small, _STRIDE, (photo.shape[0], photo.shape[1]), _FONT_PIXELS)
    return write_texts(photo, shown, places, [(1.0, 1.0, 1.0)] * len(shown), _FONT_PIXELS)


def greyed(photo: np.ndarray) -> np.ndarray:
    """The photo in pale grey, as a ground for colours that mean something else than classes."""
    grey = photo.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat((60 + grey * 0.72)[..., None], 3, axis=2).astype(np.uint8)


def address_of(image: np.ndarray, quality: int = 68) -> str:
    """An image (H, W, 3) uint8 as an address with its own bytes in it, as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=1)
    return data_uri(buffer.getvalue(), "image/webp")
