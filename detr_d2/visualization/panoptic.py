"""Panoptic maps and boxes over their image, with names that neither run over each other nor out of the image.

The colours are the classes', as they are; stuff has its scores, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.visualization.class_style import ClassStyle, class_style
from detr_d2.visualization.label_layout import place_labels
from detr_d2.visualization.strokes import draw_borders, draw_boxes, number_segments, paint_segments, write_texts

from detectron2.structures import Instances

#: Images with a shorter long side are enlarged by a whole factor, so that names can be read.
MIN_LONG_SIDE = 480
#: Names are placed on a map of at most this long side; more would take time and change nothing.
_LAYOUT_LONG_SIDE = 320
MASK_OPACITY = 0.55


def enlargement(height: int, width: int, min_long_side: int = MIN_LONG_SIDE) -> int:
    """The least whole factor that makes an image's long side at least ``min_long_side`` pixels."""
    return max(math.ceil(min_long_side / max(height, width)), 1)


def draw_panoptic(
    image_rgb: np.ndarray,
    panoptic_map: Any,
    segments_info: Sequence[Mapping[str, Any]],
    metadata: Any,
    scale: float = 1.0,
) -> np.ndarray:
    """Colours each segment as its class, draws the borders between segments, and writes names and scores.

    Args:
        image_rgb: (H, W, 3) uint8, RGB.
        panoptic_map: (H, W) integers, a tensor or an array; 0 and ids that ``segments_info`` doesn't have stay bare.
        segments_info: for each segment "id", "category_id" (contiguous), "isthing"; if known, "score" and "iscrowd".
        metadata: Detectron2's ``Metadata`` of the dataset: names and colours.
        scale: the result's size in relation to the image's; the image is resized smoothly, the map exactly.

    Returns:
        (round(H * scale), round(W * scale), 3) uint8, RGB.

    Raises:
        ValueError: image and map differ in size.
    """
    ids = as_array(panoptic_map)
    if ids.shape != image_rgb.shape[:2]:
        raise ValueError(f"the panoptic map is {ids.shape}, its image {image_rgb.shape[:2]}; sizes must be equal.")
    return paint_panoptic(resize_image(image_rgb, scale), resize_map(ids, scale), segments_info, metadata)


def paint_panoptic(
    image: np.ndarray,
    ids: np.ndarray,
    segments_info: Sequence[Mapping[str, Any]],
    metadata: Any,
    opacity: float = MASK_OPACITY,
) -> np.ndarray:
    """:func:`draw_panoptic` on an image and a map (H, W) that have the result's size."""
    numbers = number_segments(ids, [segment["id"] for segment in segments_info])
    colors = [_style(segment, metadata).color for segment in segments_info]
    painted = paint_segments(image, numbers, colors, opacity)
    # A line of one pixel can hardly be seen, in a large photo not at all.
    drawn = draw_borders(painted, numbers, width=2 + max(numbers.shape) // 1600)
    return _with_names(drawn, numbers, segments_info, metadata)


def draw_instances(
    image_rgb: np.ndarray, instances: Instances, metadata: Any, scale: float = 1.0, min_score: float = 0.0
) -> np.ndarray:
    """Draws boxes with names and scores, for a model without a mask head.

    Args:
        image_rgb: (H, W, 3) uint8, RGB.
        instances: with ``pred_boxes`` in the image's pixels, ``pred_classes`` and, for predictions, ``scores``.
        metadata: Detectron2's ``Metadata`` of the dataset: names and colours.
        scale: the result's size in relation to the image's.
        min_score: boxes with a lower score aren't drawn.

    Returns:
        (round(H * scale), round(W * scale), 3) uint8, RGB.
    """
    return paint_instances(resize_image(image_rgb, scale), instances, metadata, scale, min_score)


def paint_instances(
    image: np.ndarray, instances: Instances, metadata: Any, scale: float = 1.0, min_score: float = 0.0
) -> np.ndarray:
    """:func:`draw_instances` on an image that has the result's size; ``scale`` is that of the boxes."""
    boxes = as_array(instances.pred_boxes.tensor) * scale
    classes = as_array(instances.pred_classes)
    is_ground_truth = not instances.has("scores")
    scores = np.ones(len(classes)) if is_ground_truth else as_array(instances.scores)
    order = [int(index) for index in np.argsort(-scores, kind="stable") if scores[index] >= min_score]
    styles = [class_style(metadata, int(classes[index]), is_thing=True) for index in order]
    width = max(2, round(_font_pixels(image) / 5))
    drawn = draw_boxes(image, boxes[order], [style.color for style in styles], width)
    texts = [_text(style, None if is_ground_truth else float(scores[index])) for index, style in zip(order, styles)]
    # A name goes along its box's upper edge.
    stride = max(max(image.shape[:2]) / _LAYOUT_LONG_SIDE, 1.0)
    masks = [_upper_edge(boxes[index], image.shape[:2], stride) for index in order]
    return _with_texts(drawn, texts, masks, styles, stride)


def resize_image(image_rgb: np.ndarray, scale: float) -> np.ndarray:
    """The image at another size, smoothly interpolated; (round(H * scale), round(W * scale), 3) uint8."""
    if scale == 1:
        return image_rgb
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(image_rgb)).resize(_size(image_rgb, scale), Image.Resampling.LANCZOS)
    )


def resize_map(ids: np.ndarray, scale: float) -> np.ndarray:
    """A map of ids (H, W) at another size: each pixel is that of the original at its place."""
    if scale == 1:
        return ids
    width, height = _size(ids, scale)
    rows = np.minimum(((np.arange(height) + 0.5) / scale).astype(int), ids.shape[0] - 1)
    columns = np.minimum(((np.arange(width) + 0.5) / scale).astype(int), ids.shape[1] - 1)
    return ids[rows[:, None], columns[None, :]]


def _size(array: np.ndarray, scale: float) -> tuple[int, int]:
    """Width and height after scaling."""
    return max(round(array.shape[1] * scale), 1), max(round(array.shape[0] * scale), 1)


def _style(segment: Mapping[str, Any], metadata: Any) -> ClassStyle:
    return class_style(metadata, int(segment["category_id"]), bool(segment["isthing"]))


def _with_names(
    image: np.ndarray, numbers: np.ndarray, segments: Sequence[Mapping[str, Any]], metadata: Any
) -> np.ndarray:
    """Names of things first, the largest first; then stuff, which has more places to choose from."""
    areas = np.bincount(numbers.ravel(), minlength=len(segments) + 1)
    shown = [(number, segment) for number, segment in enumerate(segments, start=1) if areas[number]]
    order = sorted(shown, key=lambda pair: (not pair[1]["isthing"], -int(areas[pair[0]])))
    styles = [_style(segment, metadata) for _, segment in order]
    texts = [
        _text(style, segment.get("score"), bool(segment.get("iscrowd", 0)))
        for (_, segment), style in zip(order, styles)
    ]
    stride = max(max(numbers.shape) // _LAYOUT_LONG_SIDE, 1)
    small = numbers[::stride, ::stride]
    return _with_texts(image, texts, [small == number for number, _ in order], styles, stride)


def _with_texts(
    image: np.ndarray,
    texts: Sequence[str],
    masks: Sequence[np.ndarray],
    styles: Sequence[ClassStyle],
    stride: float,
) -> np.ndarray:
    pixels = _font_pixels(image)
    places = place_labels(texts, masks, stride, (image.shape[0], image.shape[1]), pixels)
    return write_texts(image, texts, places, [style.text_color for style in styles], pixels)


def _font_pixels(image: np.ndarray) -> float:
    return max(14.0, math.sqrt(image.shape[0] * image.shape[1]) / 45)


def _text(style: ClassStyle, score: float | None, is_crowd: bool = False) -> str:
    name = f"{style.name} (crowd)" if is_crowd else style.name
    return name if score is None else f"{name} {100 * score:.0f}%"


def _upper_edge(box: np.ndarray, image_size: tuple[int, int], stride: float) -> np.ndarray:
    """A mask of the box's upper edge, at the layout's size."""
    rows, columns = (max(math.ceil(side / stride), 1) for side in image_size)
    mask = np.zeros((rows, columns), dtype=bool)
    left, top, right = (int(value / stride) for value in box[:3])
    row = min(max(top, 0), rows - 1)
    mask[row, max(min(left, columns - 1), 0) : max(right, left + 1, 1)] = True
    return mask


def as_array(values: Any) -> np.ndarray:
    """A tensor on any device, or an array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
