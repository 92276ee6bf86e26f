"""One image of a dataset in several views: ground truth, the bare image, what the model is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detr_d2.data import Category, categories_of, dataset_metadata
from detr_d2.data.registration import segments_of
from detr_d2.data.train_loader import build_train_mapper
from detr_d2.labels.image_reading import read_dataset_image
from detr_d2.pages import thumbnail
from detr_d2.visualization.ground_truth import draw_ground_truth, draw_training_instances

from detectron2.config import CfgNode

#: Long side of what a page holds, in pixels: large enough to judge a mask, small enough for hundreds.
LONG_SIDE = 640
#: How often an image is augmented.
DRAWS = 3


def class_rows(records: Iterable[dict[str, Any]], categories: Sequence[Category]) -> list[dict[str, Any]]:
    """For each class its name, colour and kind, the images and segments that have it, its crowds and its pixels.

    Args:
        records: dataset dicts.
        categories: by contiguous id.

    Returns:
        One dict a class; ``pixels`` is None where the JSON has no areas.
    """
    counts, has_areas = np.zeros((len(categories), 4), np.int64), True
    for record in records:
        segments = segments_of(record)
        counts[list({segment["category_id"] for segment in segments}), 0] += 1
        for segment in segments:
            is_crowd, area = bool(segment.get("iscrowd", 0)), segment.get("area")
            has_areas = has_areas and area is not None
            counts[segment["category_id"], 1:] += (not is_crowd, is_crowd, int(area or 0))
    rows = zip(categories, counts.tolist())
    return [
        {"name": c.name, "color": c.color, "is_thing": c.is_thing, "images": images}
        | {"segments": segments, "crowds": crowds, "pixels": pixels if has_areas else None}
        for c, (images, segments, crowds, pixels) in rows
    ]


def choose_records(records: Sequence[dict[str, Any]], limit: int, wanted: int | None = None) -> list[int]:
    """The numbers of at most ``limit`` records, spread evenly; of those with a class, if one is wanted."""
    numbers = [
        number
        for number, record in enumerate(records)
        if wanted is None or any(segment["category_id"] == wanted for segment in segments_of(record))
    ]
    places = np.linspace(0, len(numbers) - 1, min(limit, len(numbers))).round().astype(int)
    return [numbers[place] for place in places]


class Gallery:
    """Draws the images of a dataset.

    Args:
        name: of the dataset, which is registered.
        records: its dataset dicts.
        cfg: how images are augmented; None: they aren't.
    """

    def __init__(self, name: str, records: Sequence[dict[str, Any]], cfg: CfgNode | None) -> None:
        self._records, self._metadata = records, dataset_metadata(name)
        self._categories = categories_of(name)
        self._augment: Callable[[Any], dict[str, Any]] | None = None
        if cfg is not None:
            self._augment, self._entries = build_train_mapper(cfg, list(records))

    def scene(self, number: int) -> dict[str, Any]:
        """An image as the page's template takes it: caption, class names and views.

        Raises:
            MissingFileError, DatasetError: image or ground truth can't be read.
        """
        record = self._records[number]
        image = read_dataset_image(record["file_name"], "RGB", record.get("image_id"))
        names = [self._categories[segment["category_id"]].name for segment in segments_of(record)]
        height, width = image.shape[:2]
        drawn = draw_ground_truth(image, record, self._metadata, _scale(image))
        views = [("ground truth", thumbnail(drawn, LONG_SIDE)), ("image", thumbnail(image, LONG_SIDE))]
        if self._augment is not None:
            given = [self._augment(self._entries[number]) for _ in range(DRAWS)]
            shown = [thumbnail(draw_given(each, self._metadata, self._categories), LONG_SIDE) for each in given]
            views = [(f"as the model is given it, {i + 1}", view) for i, view in enumerate(shown)] + views
        caption = f"{Path(record['file_name']).name} · image id {record['image_id']} · {width}×{height}"
        return {"caption": caption, "classes": sorted(set(names)), "segments": len(names), "views": views}


def draw_given(given: dict[str, Any], metadata: Any, categories: Sequence[Category]) -> np.ndarray:
    """What the model is given in training, drawn: its image with its masks as they are, or with its boxes.

    Args:
        given: what a mapper returned, in RGB.
        metadata: Detectron2's ``Metadata`` of the dataset.
        categories: of the dataset.

    Returns:
        (H, W, 3) uint8, of about ``LONG_SIDE`` pixels.
    """
    image = np.ascontiguousarray(given["image"].numpy().transpose(1, 2, 0))
    return draw_training_instances(image, given["instances"], categories, metadata, _scale(image))


def _scale(image: np.ndarray) -> float:
    """Drawings are made at the page's size, so that names can be read; small images by a whole factor."""
    long_side = max(image.shape[:2])
    return LONG_SIDE / long_side if long_side > LONG_SIDE else float(LONG_SIDE // long_side)
