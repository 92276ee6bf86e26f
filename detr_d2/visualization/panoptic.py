"""Panoptic maps and boxes over their picture, through Detectron2's ``Visualizer``.

Only the ``Visualizer``'s basic strokes are used (masks, boxes, texts). Its ready-made drawings jitter the colours, drop
the scores of stuff and let names run over each other and out of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.visualization.class_style import ClassStyle, class_style
from detr_d2.visualization.figure_text import without_formulas
from detr_d2.visualization.label_layout import Rectangle, place_labels

from detectron2.structures import Instances
from detectron2.utils.visualizer import ColorMode, Visualizer

#: Pictures with a shorter long side are enlarged by a whole factor, so that names can be read.
MIN_LONG_SIDE = 480
#: Names are placed on a map of at most this long side; more would take time and change nothing.
_LAYOUT_LONG_SIDE = 320
_DOTS_PER_POINT = 100 / 72  # the Visualizer draws with matplotlib's 100 dots an inch
_MASK_ALPHA = 0.55


def enlargement(height: int, width: int, min_long_side: int = MIN_LONG_SIDE) -> int:
    """The least whole factor that makes a picture's long side at least ``min_long_side`` pixels."""
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
        scale: the result's size in relation to the picture's; the picture is resized smoothly, the map exactly.

    Returns:
        (round(H * scale), round(W * scale), 3) uint8, RGB.

    Raises:
        ValueError: picture and map differ in size.
    """
    ids = _as_array(panoptic_map).astype(np.int64)
    if ids.shape != image_rgb.shape[:2]:
        raise ValueError(f"the panoptic map is {ids.shape}, its picture {image_rgb.shape[:2]}; sizes must be equal.")
    image, ids = resize_image(image_rgb, scale), _resize_map(ids, scale)
    visualizer = _visualizer(image, metadata)
    segments = [(segment, ids == segment["id"]) for segment in segments_info]
    segments = [(segment, mask) for segment, mask in segments if mask.any()]
    for segment, mask in segments:
        color = _style(segment, metadata).color
        visualizer.draw_binary_mask(mask.astype(np.uint8), color, alpha=_MASK_ALPHA, area_threshold=0)
    colored = visualizer.get_output().get_image()
    visualizer = _visualizer(_with_borders(colored, ids, [segment["id"] for segment, _ in segments]), metadata)
    _write_names(visualizer, segments, metadata)
    return visualizer.get_output().get_image()


def draw_instances(
    image_rgb: np.ndarray, instances: Instances, metadata: Any, scale: float = 1.0, min_score: float = 0.0
) -> np.ndarray:
    """Draws boxes with names and scores, for a model without a mask head.

    Args:
        image_rgb: (H, W, 3) uint8, RGB.
        instances: with ``pred_boxes`` in the picture's pixels, ``pred_classes`` and, for predictions, ``scores``.
        metadata: Detectron2's ``Metadata`` of the dataset: names and colours.
        scale: the result's size in relation to the picture's.
        min_score: boxes with a lower score aren't drawn.

    Returns:
        (round(H * scale), round(W * scale), 3) uint8, RGB.
    """
    image = resize_image(image_rgb, scale)
    visualizer = _visualizer(image, metadata)
    boxes = _as_array(instances.pred_boxes.tensor) * scale
    classes = _as_array(instances.pred_classes)
    is_truth = not instances.has("scores")
    scores = np.ones(len(classes)) if is_truth else _as_array(instances.scores)
    order = [int(index) for index in np.argsort(-scores, kind="stable") if scores[index] >= min_score]
    styles = [class_style(metadata, int(classes[index]), is_thing=True) for index in order]
    for index, style in zip(order, styles):
        visualizer.draw_box(boxes[index].tolist(), alpha=1.0, edge_color=style.color)
    texts = [_text(style, None if is_truth else float(scores[index])) for index, style in zip(order, styles)]
    # A name goes along its box's upper edge.
    stride = max(max(image.shape[:2]) / _LAYOUT_LONG_SIDE, 1.0)
    masks = [_upper_edge(boxes[index], image.shape[:2], stride) for index in order]
    _write_texts(visualizer, texts, masks, styles, stride)
    return visualizer.get_output().get_image()


def resize_image(image_rgb: np.ndarray, scale: float) -> np.ndarray:
    """The picture at another size, smoothly interpolated; (round(H * scale), round(W * scale), 3) uint8."""
    if scale == 1:
        return image_rgb
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(image_rgb)).resize(_size(image_rgb, scale), Image.Resampling.LANCZOS)
    )


def _resize_map(ids: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return ids
    width, height = _size(ids, scale)
    rows = np.minimum(((np.arange(height) + 0.5) / scale).astype(int), ids.shape[0] - 1)
    columns = np.minimum(((np.arange(width) + 0.5) / scale).astype(int), ids.shape[1] - 1)
    return ids[rows[:, None], columns[None, :]]


def _size(array: np.ndarray, scale: float) -> tuple[int, int]:
    """Width and height after scaling."""
    return max(round(array.shape[1] * scale), 1), max(round(array.shape[0] * scale), 1)


def _visualizer(image: np.ndarray, metadata: Any) -> Visualizer:
    return Visualizer(image, metadata, scale=1.0, instance_mode=ColorMode.IMAGE)


def _style(segment: Mapping[str, Any], metadata: Any) -> ClassStyle:
    return class_style(metadata, int(segment["category_id"]), bool(segment["isthing"]))


def _with_borders(image: np.ndarray, ids: np.ndarray, drawn_ids: Sequence[int]) -> np.ndarray:
    """A light line between segments, also between two of the same class; pixel by pixel, which polygons can't do."""
    known = np.where(np.isin(ids, list(drawn_ids)), ids, 0)
    border = np.zeros(ids.shape, dtype=bool)
    border[:, 1:] |= known[:, 1:] != known[:, :-1]
    border[1:, :] |= known[1:, :] != known[:-1, :]
    for _ in range(1 + max(ids.shape) // 1600):  # a line of one pixel can hardly be seen, in a large photo not at all
        border[:, :-1] |= border[:, 1:]
        border[:-1, :] |= border[1:, :]
    return np.where(border[:, :, None], (0.1 * image + 0.9 * 255).astype(np.uint8), image)


def _write_names(
    visualizer: Visualizer, segments: Sequence[tuple[Mapping[str, Any], np.ndarray]], metadata: Any
) -> None:
    """Names of things first, the largest first; then stuff, which has more places to choose from."""
    order = sorted(segments, key=lambda pair: (not pair[0]["isthing"], -int(pair[1].sum())))
    styles = [_style(segment, metadata) for segment, _ in order]
    texts = [
        _text(style, segment.get("score"), bool(segment.get("iscrowd", 0)))
        for (segment, _), style in zip(order, styles)
    ]
    height, width = visualizer.output.height, visualizer.output.width
    stride = max(max(height, width) // _LAYOUT_LONG_SIDE, 1)
    _write_texts(visualizer, texts, [mask[::stride, ::stride] for _, mask in order], styles, stride)


def _write_texts(
    visualizer: Visualizer,
    texts: Sequence[str],
    masks: Sequence[np.ndarray],
    styles: Sequence[ClassStyle],
    stride: float,
) -> None:
    height, width = visualizer.output.height, visualizer.output.width
    pixels = max(14.0, math.sqrt(height * width) / 45)
    places: list[Rectangle | None] = place_labels(texts, masks, stride, (height, width), pixels)
    for text, place, style in zip(texts, places, styles):
        if place is not None:
            visualizer.draw_text(
                without_formulas(text),
                ((place.left + place.right) / 2, place.top),
                font_size=pixels / _DOTS_PER_POINT,
                color=style.text_color,
                horizontal_alignment="center",
            )


def _text(style: ClassStyle, score: float | None, is_crowd: bool = False) -> str:
    name = f"{style.name} (crowd)" if is_crowd else style.name
    return name if score is None else f"{name} {100 * score:.0f}%"


def _upper_edge(box: np.ndarray, picture_size: tuple[int, int], stride: float) -> np.ndarray:
    """A mask of the box's upper edge, at the layout's size."""
    rows, columns = (max(math.ceil(side / stride), 1) for side in picture_size)
    mask = np.zeros((rows, columns), dtype=bool)
    left, top, right = (int(value / stride) for value in box[:3])
    row = min(max(top, 0), rows - 1)
    mask[row, max(min(left, columns - 1), 0) : max(right, left + 1, 1)] = True
    return mask


def _as_array(values: Any) -> np.ndarray:
    """A tensor on any device, or an array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
