"""Ground truth over its image: a dataset's own, and what a mapper gives the model in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detr_d2.data import Category, read_panoptic_png
from detr_d2.errors import DatasetError
from detr_d2.visualization.panoptic import draw_instances, draw_panoptic

from detectron2.structures import Boxes, BoxMode, Instances

Segments = Sequence[Mapping[str, Any]]


def draw_ground_truth(
    image_rgb: np.ndarray, dataset_dict: Mapping[str, Any], metadata: Any, scale: float = 1.0
) -> np.ndarray:
    """The panoptic map of a dataset's image, or the boxes of its annotations where it has no map.

    Args and Returns: as :func:`draw_panoptic`; ``dataset_dict`` as :func:`read_ground_truth` takes it.
    """
    found = read_ground_truth(dataset_dict, (image_rgb.shape[0], image_rgb.shape[1]))
    if isinstance(found, Instances):
        return draw_instances(image_rgb, found, metadata, scale)
    return draw_panoptic(image_rgb, *found, metadata, scale)


def read_ground_truth(
    dataset_dict: Mapping[str, Any], size: tuple[int, int]
) -> tuple[np.ndarray, Segments] | Instances:
    """The map of segment ids (H, W) and its segments; or boxes without scores, crowds left out.

    Args:
        dataset_dict: in Detectron2's format: "pan_seg_file_name" and "segments_info", or "annotations".
        size: height and width of the image.

    Raises:
        MissingFileError: the panoptic PNG isn't there.
        DatasetError: it can't be read, or isn't as large as its image.
    """
    if "pan_seg_file_name" not in dataset_dict:
        return _boxes_of(dataset_dict.get("annotations", []), size)
    path = dataset_dict["pan_seg_file_name"]
    ids = read_panoptic_png(path)
    if ids.shape != size:
        raise DatasetError(
            f"{path} has {ids.shape[1]}x{ids.shape[0]} pixels, its image {dataset_dict['file_name']} "
            f"{size[1]}x{size[0]}; both must be equal. Take both from one export."
        )
    return ids, dataset_dict["segments_info"]


def draw_training_instances(
    image_rgb: np.ndarray, instances: Instances, categories: Sequence[Category], metadata: Any, scale: float = 1.0
) -> np.ndarray:
    """What the model is given in training: masks as they are, or boxes where there are no masks.

    Args:
        image_rgb: (H, W, 3) uint8, RGB.
        instances: gt_classes, gt_boxes in pixels of the image and perhaps gt_masks, which may be smaller by a stride.
        categories: of the dataset, by contiguous class.
        metadata: Detectron2's ``Metadata`` of the dataset: names and colours.
        scale: the result's size in relation to the image's.
    """
    if not instances.has("gt_masks"):
        boxes = Instances(instances.image_size, pred_boxes=instances.gt_boxes, pred_classes=instances.gt_classes)
        return draw_instances(image_rgb, boxes, metadata, scale)
    ids = id_map(instances.gt_masks.tensor.cpu().numpy(), image_rgb.shape[:2])
    segments = [
        {"id": number, "category_id": label, "isthing": categories[label].is_thing}
        for number, label in enumerate(instances.gt_classes.tolist(), start=1)
    ]
    return draw_panoptic(image_rgb, ids, segments, metadata, scale)


def id_map(masks: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """1 + the number of each pixel's mask, 0 for void, at the image's size, whatever the masks' stride.

    Args:
        masks: (N, h, w) bool; of those that overlap the last one counts.
        size: height and width.
    """
    ids = np.zeros(masks.shape[1:], np.int32)
    for number, mask in enumerate(masks, start=1):
        ids[mask] = number
    steps = [-(-size[axis] // ids.shape[axis]) for axis in (0, 1)]
    return ids.repeat(steps[0], 0).repeat(steps[1], 1)[: size[0], : size[1]]


def _boxes_of(annotations: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> Instances:
    objects = [entry for entry in annotations if not entry.get("iscrowd", 0)]
    boxes = [BoxMode.convert(list(entry["bbox"]), entry["bbox_mode"], BoxMode.XYXY_ABS) for entry in objects]
    found = Instances(size)
    found.pred_boxes = Boxes(np.array(boxes, dtype=np.float32).reshape(-1, 4))
    found.pred_classes = np.array([entry["category_id"] for entry in objects], dtype=np.int64)
    return found
