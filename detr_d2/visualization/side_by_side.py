"""Image, ground truth and prediction in one row: of a dataset, and of a training for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from detr_d2.data import Category
from detr_d2.labels.image_reading import read_dataset_image
from detr_d2.visualization.class_style import metadata_of
from detr_d2.visualization.files import save_image
from detr_d2.visualization.ground_truth import draw_ground_truth, draw_training_instances
from detr_d2.visualization.label_layout import text_font
from detr_d2.visualization.panoptic import draw_instances, draw_panoptic, enlargement, resize_image

from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage

#: Larger images are shrunk for a row of three; they can be looked at in full size one by one.
MAX_LONG_SIDE = 960
_GAP = 8  # pixels between panels
_TITLE_PIXELS = 18
_BACKGROUND = (255, 255, 255)
_TITLE_COLOR = (20, 20, 20)

#: Of an image in training.
TITLE = "Left: ground truth;  Right: prediction"

DatasetDict = Mapping[str, Any]
Prediction = Mapping[str, Any]


def draw_side_by_side(
    dataset_dict: DatasetDict, prediction: Prediction, metadata: Any, score_threshold: float = 0.5
) -> np.ndarray:
    """One row of image, ground truth and prediction, each with its title.

    Args:
        dataset_dict: of one image: "file_name", "pan_seg_file_name" and "segments_info" with contiguous category ids;
            or, where there is no panoptic ground truth, "annotations" with boxes.
        prediction: the model's result for it at the image's own size: "panoptic_seg", or, without a mask head,
            "instances".
        metadata: Detectron2's ``Metadata`` of the dataset.
        score_threshold: where only "instances" are there, boxes with a lower score aren't drawn.

    Returns:
        (H, W, 3) uint8, RGB. Each panel's long side has 480 to 960 pixels.

    Raises:
        MissingFileError: the ground truth's PNG isn't there.
        DatasetError: it can't be read, or isn't as large as its image.
    """
    image = _image(dataset_dict, "RGB")
    height, width = image.shape[:2]
    scale = min(float(enlargement(height, width)), MAX_LONG_SIDE / max(height, width))
    panels = {
        Path(dataset_dict["file_name"]).name: resize_image(image, scale),
        "ground truth": draw_ground_truth(image, dataset_dict, metadata, scale),
        "prediction": draw_prediction(image, prediction, metadata, scale, score_threshold),
    }
    return _in_a_row(list(panels.values()), list(panels))


def draw_prediction(
    image_rgb: np.ndarray, prediction: Prediction, metadata: Any, scale: float = 1.0, score_threshold: float = 0.5
) -> np.ndarray:
    """A model's result over its image: the panoptic map, or boxes where the model has no mask head.

    Args and Returns: as :func:`draw_panoptic` and :func:`draw_instances`.
    """
    if "panoptic_seg" in prediction:
        panoptic_map, segments_info = prediction["panoptic_seg"]
        return draw_panoptic(image_rgb, panoptic_map, segments_info, metadata, scale)
    return draw_instances(image_rgb, prediction["instances"], metadata, scale, score_threshold)


def save_side_by_side(
    predict: Callable[[np.ndarray], Prediction],
    dataset_dicts: Iterable[DatasetDict],
    metadata: Any,
    output_dir: str | Path,
    score_threshold: float = 0.5,
) -> list[Path]:
    """Predicts images of a dataset and writes a row of image, ground truth and prediction for each.

    Args:
        predict: a ``DetrPredictor``, or what is called likewise: (H, W, 3) uint8 BGR to the model's result.
        dataset_dicts: the images, see :func:`draw_side_by_side`.
        metadata: Detectron2's ``Metadata`` of the dataset.
        output_dir: the folder to write to; made if it isn't there.
        score_threshold: see :func:`draw_side_by_side`.

    Returns:
        The files written, named as the images, in ``.png``.
    """
    written = []
    for dataset_dict in dataset_dicts:
        prediction = predict(_image(dataset_dict, "BGR"))
        row = draw_side_by_side(dataset_dict, prediction, metadata, score_threshold)
        written.append(save_image(row, Path(output_dir) / f"{Path(dataset_dict['file_name']).stem}.png"))
    return written


def _image(dataset_dict: DatasetDict, image_format: str) -> np.ndarray:
    return read_dataset_image(dataset_dict["file_name"], image_format, dataset_dict.get("image_id"))


def _in_a_row(panels: Sequence[np.ndarray], titles: Sequence[str]) -> np.ndarray:
    height, width = panels[0].shape[:2]
    title_height = 2 * _TITLE_PIXELS
    size = (len(panels) * (width + _GAP) + _GAP, height + title_height + _GAP)
    figure = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(figure)
    font = text_font(_TITLE_PIXELS)
    for index, (panel, title) in enumerate(zip(panels, titles)):
        left = _GAP + index * (width + _GAP)
        while font.getlength(title) > width and len(title) > 1:
            title = title[:-2] + "…"
        draw.text((left + width / 2, title_height / 2), title, _TITLE_COLOR, font, anchor="mm")
        figure.paste(Image.fromarray(panel), (left, title_height))
    return np.asarray(figure)


def put_training_image(
    image: Tensor, gt: Instances, prediction: Mapping[str, Any], categories: Sequence[Category], channel_order: str
) -> None:
    """Draw an augmented image twice, with its ground truth and with its prediction, and hand it to the event storage.

    Args:
        image: (3, H, W), 0..255, as the model is given it.
        gt: gt_classes, gt_boxes in pixels of the image and perhaps gt_masks, which may be smaller than it.
        prediction: the model's result of this image, at its size.
        categories: by contiguous id.
        channel_order: "RGB" or "BGR".
    """
    pixels = image.permute(1, 2, 0).byte().cpu().numpy()
    rgb = np.ascontiguousarray(pixels[:, :, ::-1] if channel_order == "BGR" else pixels)
    metadata, scale = metadata_of(categories), enlargement(*rgb.shape[:2])
    gt_half = draw_training_instances(rgb, gt, categories, metadata, scale)
    halves = [gt_half, draw_prediction(rgb, prediction, metadata, scale)]
    get_event_storage().put_image(TITLE, np.ascontiguousarray(np.concatenate(halves, 1).transpose(2, 0, 1)))
