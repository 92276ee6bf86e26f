"""One picture of a dataset in several views: truth, the bare picture, what the model is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detr_d2.browse.classes import segments_of
from detr_d2.data import Category, categories_of, dataset_metadata, read_panoptic_png
from detr_d2.data.train_loader import build_train_mapper
from detr_d2.errors import DatasetError
from detr_d2.labels.image_reading import read_dataset_image
from detr_d2.pages import thumbnail
from detr_d2.visualization import draw_instances, draw_panoptic

from detectron2.config import CfgNode
from detectron2.structures import Boxes, BoxMode, Instances

#: Long side of what a page holds, in pixels: large enough to judge a mask, small enough for hundreds.
LONG_SIDE = 640
#: How often a picture is augmented.
DRAWS = 3


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
    """Draws the pictures of a dataset.

    Args:
        name: of the dataset, which is registered.
        records: its dataset dicts.
        cfg: how pictures are augmented; None: they aren't.
    """

    def __init__(self, name: str, records: Sequence[dict[str, Any]], cfg: CfgNode | None) -> None:
        self._records, self._metadata = records, dataset_metadata(name)
        self._categories = categories_of(name)
        self._augment: Callable[[Any], dict[str, Any]] | None = None
        if cfg is not None:
            self._augment, self._entries = build_train_mapper(cfg, list(records))

    def scene(self, number: int) -> dict[str, Any]:
        """A picture as the page's template takes it: caption, class names and views.

        Raises:
            MissingFileError, DatasetError: picture or truth can't be read.
        """
        record = self._records[number]
        image = read_dataset_image(record["file_name"], "RGB", f"the picture {record['file_name']}")
        names = [self._categories[segment["category_id"]].name for segment in segments_of(record)]
        height, width = image.shape[:2]
        views = [("truth", self._truth(image, record)), ("picture", thumbnail(image, LONG_SIDE))]
        if self._augment is not None:
            given = [self._augment(self._entries[number]) for _ in range(DRAWS)]
            drawn = [thumbnail(draw_given(each, self._metadata, self._categories), LONG_SIDE) for each in given]
            views = [(f"as the model is given it, {i + 1}", view) for i, view in enumerate(drawn)] + views
        caption = f"{Path(record['file_name']).name} · image id {record['image_id']} · {width}×{height}"
        return {"caption": caption, "classes": sorted(set(names)), "segments": len(names), "views": views}

    def _truth(self, image: np.ndarray, record: dict[str, Any]) -> str:
        scale = _scale(image)
        if "segments_info" not in record:
            return thumbnail(draw_instances(image, _true_boxes(record, image), self._metadata, scale), LONG_SIDE)
        ids = read_panoptic_png(record["pan_seg_file_name"])
        if ids.shape != image.shape[:2]:
            raise DatasetError(
                f"{record['pan_seg_file_name']} is {ids.shape[1]}x{ids.shape[0]} pixels, its picture "
                f"{image.shape[1]}x{image.shape[0]}; take both from one export."
            )
        return thumbnail(draw_panoptic(image, ids, record["segments_info"], self._metadata, scale), LONG_SIDE)


def draw_given(given: dict[str, Any], metadata: Any, categories: Sequence[Category]) -> np.ndarray:
    """What the model is given in training, drawn: its picture with its masks as they are, or with its boxes.

    Args:
        given: what a mapper returned, in RGB.
        metadata: Detectron2's ``Metadata`` of the dataset.
        categories: of the dataset.

    Returns:
        (H, W, 3) uint8, of about ``LONG_SIDE`` pixels.
    """
    image = np.ascontiguousarray(given["image"].numpy().transpose(1, 2, 0))
    truth, scale = given["instances"], _scale(image)
    if not truth.has("gt_masks"):
        truth.pred_boxes, truth.pred_classes = truth.gt_boxes, truth.gt_classes
        return draw_instances(image, truth, metadata, scale)
    ids = _id_map(truth.gt_masks.tensor.numpy(), image.shape[:2])
    segments = [
        {"id": i + 1, "category_id": number, "isthing": categories[number].is_thing}
        for i, number in enumerate(truth.gt_classes.tolist())
    ]
    return draw_panoptic(image, ids, segments, metadata, scale)


def _id_map(masks: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """1 + the number of each pixel's mask, 0 for void, at the picture's size, whatever the masks' stride."""
    ids = np.zeros(masks.shape[1:], np.int32)
    for number, mask in enumerate(masks):
        ids[mask] = number + 1
    steps = [-(-size[axis] // ids.shape[axis]) for axis in (0, 1)]
    return ids.repeat(steps[0], 0).repeat(steps[1], 1)[: size[0], : size[1]]


def _scale(image: np.ndarray) -> float:
    """Drawings are made at the page's size, so that names can be read; small pictures by a whole factor."""
    long_side = max(image.shape[:2])
    return LONG_SIDE / long_side if long_side > LONG_SIDE else float(LONG_SIDE // long_side)


def _true_boxes(record: dict[str, Any], image: np.ndarray) -> Instances:
    objects = [entry for entry in record["annotations"] if not entry.get("iscrowd", 0)]
    boxes = [BoxMode.convert(list(entry["bbox"]), entry["bbox_mode"], BoxMode.XYXY_ABS) for entry in objects]
    truth = Instances((image.shape[0], image.shape[1]))
    truth.pred_boxes = Boxes(np.array(boxes, dtype=np.float32).reshape(-1, 4))
    truth.pred_classes = np.array([entry["category_id"] for entry in objects], dtype=np.int64)
    return truth
