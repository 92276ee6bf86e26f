"""What a model in training is given and what it makes of it, for TensorBoard: ``VIS_PERIOD``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from detr_d2.data import Category
from detr_d2.visualization.class_style import metadata_of
from detr_d2.visualization.ground_truth import draw_training_instances
from detr_d2.visualization.panoptic import enlargement
from detr_d2.visualization.side_by_side import draw_prediction

from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage

TITLE = "Left: ground truth;  Right: prediction"


def put_training_image(
    image: Tensor, truth: Instances, prediction: Mapping[str, Any], categories: Sequence[Category], channel_order: str
) -> None:
    """Draw an augmented image twice, with its ground truth and with its prediction, and hand it to the event storage.

    Args:
        image: (3, H, W), 0..255, as the model is given it.
        truth: gt_classes, gt_boxes in pixels of the image and perhaps gt_masks, which may be smaller than it.
        prediction: the model's result of this image, at its size.
        categories: by contiguous id.
        channel_order: "RGB" or "BGR".
    """
    pixels = image.permute(1, 2, 0).byte().cpu().numpy()
    rgb = np.ascontiguousarray(pixels[:, :, ::-1] if channel_order == "BGR" else pixels)
    metadata, scale = metadata_of(categories), enlargement(*rgb.shape[:2])
    truth_half = draw_training_instances(rgb, truth, categories, metadata, scale)
    halves = [truth_half, draw_prediction(rgb, prediction, metadata, scale)]
    get_event_storage().put_image(TITLE, np.ascontiguousarray(np.concatenate(halves, 1).transpose(2, 0, 1)))
