"""The images of a report: the worst, the best and examples of mistakes, and how each is drawn."""

from __future__ import annotations

import io
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.data.categories import Category
from detr_d2.data.segments import read_panoptic_png
from detr_d2.errors import UserError
from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.records import EvaluationFolder, EvaluationRecord
from detr_d2.evaluation.report.analysis import Analysis, Example
from detr_d2.evaluation.report.mistakes import KINDS, LOOSE_BORDERS, Mistake, find_mistakes
from detr_d2.labels.image_reading import read_whole_image, reading_error
from detr_d2.pages import data_uri
from detr_d2.visualization.label_layout import drawn_name, place_labels
from detr_d2.visualization.strokes import draw_borders, number_segments, paint_segments, write_texts

logger = logging.getLogger(__name__)

#: Examples of each kind of mistake, and images that are named for each class.
EXAMPLES, CLASS_IMAGES = 6, 3
#: Part of an example that is shown around it, and the least side of the whole.
_CROP_MARGIN, _LEAST_CROP = 0.35, 120
#: What was predicted wrongly, what wasn't found, and what is both; apart for people who don't see red and green.
PREDICTED, LOST, BOTH = (230, 85, 13), (33, 113, 181), (129, 54, 160)
_GROUND, _OPACITY = 128, 0.55
#: The long side of an image in the page, in pixels.
LONG_SIDE = 640
_FONT_PIXELS = 14
#: Names are placed on a map so many times smaller.
_STRIDE = 4


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
                addresses = [(name, address_of(image)) for name, image in views.all()]
                images[row] = {"views": addresses, "height": views.size[0], "width": views.size[1]}
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
        images = [("mistake", views.mistakes([example.mistake], named=False)), ("photo", views.photo)]
        return {
            "views": [(title, address_of(image[window])) for title, image in images],
            "caption": f"{views.name_of(example.mistake)} · {self._name(example.row)['name']}",
        }


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
    places = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    ends = [(int(found[0]), int(found[-1]) + 1) for found in places]
    side = max(_LEAST_CROP, *(int((last - first) * (1 + 2 * _CROP_MARGIN)) for first, last in ends))
    starts = [
        min(max((first + last - side) // 2, 0), max(whole - side, 0)) for (first, last), whole in zip(ends, mask.shape)
    ]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _most_common(times: Counter[int], count: int) -> list[tuple[int, int]]:
    """The keys with the largest counts, of equals the lower key first."""
    return sorted(times.items(), key=lambda item: (-item[1], item[0]))[:count]


class ImageViews:
    """Draws the views of one image.

    Args:
        record: of its evaluation; of files that can't be read nothing is drawn.
        preview: (h, w) integers, the prediction at a size of its own: 0 is void, else 1 + the place of a segment; None
            where it wasn't kept. One of another prediction isn't shown.
        categories: by contiguous class.
    """

    def __init__(self, record: EvaluationRecord, preview: np.ndarray | None, categories: Sequence[Category]) -> None:
        self.image, self.scores, self.categories = record.compared, record.scores, categories
        longest = max(record.height, record.width)
        # Large images are shrunk, small ones enlarged by a whole factor.
        scale = LONG_SIDE / longest if longest > LONG_SIDE else LONG_SIDE // longest
        self.size = max(round(record.height * scale), 1), max(round(record.width * scale), 1)
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
        """The photo in pale grey, with what was predicted wrongly, what wasn't found, and where both are."""
        grey = self.photo.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        ground = np.repeat((60 + grey * 0.72)[..., None], 3, axis=2).astype(np.uint8)
        if self.true_map is None or self.predicted_map is None:
            return ground
        lost = np.isin(self.true_map, [i for mistake in mistakes for i in mistake.true_ids])
        wrong = np.isin(self.predicted_map, [i for mistake in mistakes for i in mistake.predicted_ids])
        drawn = _tinted(ground, lost + 2 * wrong, {1: LOST, 2: PREDICTED, 3: BOTH}, 0.6)
        drawn = draw_borders(drawn, self.true_map * lost, 1, (220, 235, 255))
        drawn = draw_borders(drawn, self.predicted_map * wrong, 1, (255, 240, 220))
        if not named:
            return drawn
        return _named(drawn, [(self.name_of(mistake), self.where(mistake)) for mistake in mistakes])

    def where(self, mistake: Mistake) -> np.ndarray:
        """(H, W) bool: the segments that a mistake is made of."""
        mask = np.zeros(self.size, dtype=bool)
        for ids, segment_ids in ((self.true_map, mistake.true_ids), (self.predicted_map, mistake.predicted_ids)):
            if ids is not None:
                mask |= np.isin(ids, segment_ids)
        return mask

    def name_of(self, mistake: Mistake) -> str:
        """A mistake in a few words."""
        true = [self.categories[self.image.true_class[i]].name for i in mistake.true_ids[:1]]
        predicted = [self.categories[self.image.predicted_class[i]].name for i in mistake.predicted_ids[:1]]
        return KINDS[mistake.kind].caption.format(true="".join(true), predicted="".join(predicted))

    def _segments(self, ids: np.ndarray, label_of: Mapping[int, int], scores: Mapping[int, float | None]) -> np.ndarray:
        colors = {i: self.categories[label].color for i, label in label_of.items()}
        drawn = draw_borders(_tinted(self.photo, ids, colors, _OPACITY), ids, 1)
        percents = {i: f" {100 * score:.0f}" for i, score in scores.items() if score is not None}
        texts = {i: self.categories[label].name + percents.get(i, "") for i, label in label_of.items()}
        return _named(drawn, [(text, ids == i) for i, text in texts.items()])

    def _photo(self, path: str) -> np.ndarray:
        height, width = self.size
        try:
            photo = Image.fromarray(np.ascontiguousarray(read_whole_image(path, "RGB")))
            return np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))
        except Exception as error:  # decoders raise whatever they like on broken files
            reason = reading_error(path, error)
            logger.warning("The photo %s can't be read (%s); the report shows a grey ground.", path, reason)
            return np.full((height, width, 3), _GROUND, dtype=np.uint8)

    def _true_map(self, path: str) -> np.ndarray | None:
        try:
            return _resized_map(read_panoptic_png(path), self.size)
        except (OSError, UserError) as error:
            logger.warning("The ground truth %s can't be read (%s); the report leaves it out.", path, error)
            return None

    def _predicted_map(self, record: EvaluationRecord, preview: np.ndarray | None) -> np.ndarray | None:
        ids = np.array([VOID, *(segment["id"] for segment in record.predicted)], dtype=np.int64)
        if preview is None or preview.ndim != 2 or not preview.size or preview.min() < 0 or preview.max() >= len(ids):
            return None
        return ids[_resized_map(preview, self.size)]


def _resized_map(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map of ids (H, W) at another height and width: each pixel has the id of the nearest one."""
    rows = ((np.arange(size[0]) + 0.5) * ids.shape[0] / size[0]).astype(np.int64)
    columns = ((np.arange(size[1]) + 0.5) * ids.shape[1] / size[1]).astype(np.int64)
    return ids[rows[:, None], columns]


def _tinted(
    photo: np.ndarray, ids: np.ndarray, colors: Mapping[int, tuple[int, int, int]], opacity: float
) -> np.ndarray:
    """The photo with each segment that has a colour, RGB in 0..255, tinted in it."""
    parts = [(red / 255, green / 255, blue / 255) for red, green, blue in colors.values()]
    return paint_segments(photo, number_segments(ids, list(colors)), parts, opacity)


def _named(photo: np.ndarray, texts: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """The photo with a text on each mask (H, W) bool that isn't empty, where there is room; the largest first."""
    sizes = [int(mask.sum()) for _, mask in texts]
    order = sorted((i for i, size in enumerate(sizes) if size), key=lambda i: -sizes[i])
    shown = [drawn_name(texts[i][0]) for i in order]
    small = [texts[i][1][::_STRIDE, ::_STRIDE] for i in order]
    places = place_labels(shown, small, _STRIDE, (photo.shape[0], photo.shape[1]), _FONT_PIXELS)
    return write_texts(photo, shown, places, [(1.0, 1.0, 1.0)] * len(shown), _FONT_PIXELS)


def address_of(image: np.ndarray, quality: int = 68) -> str:
    """An image (H, W, 3) uint8 as an address with its own bytes in it, as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=1)
    return data_uri(buffer.getvalue(), "image/webp")
