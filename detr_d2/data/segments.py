"""Panoptic maps: from a PNG's ids to labels, boxes and masks; and an image with all of them, before augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detr_d2.labels.panoptic_png import (
    MOST_SEGMENTS,
    find_regions,
    find_runs,
    read_map,
    unlisted_message,
)
from detr_d2.labels.rules.rule import Place, raise_errors

from ..errors import DatasetError


@dataclass(frozen=True)
class Segments:
    """The segments that an image shows.

    Args:
        numbers: (N,) which of the image's ``segments_info`` each one is.
        boxes: (N, 4) float32, left, top, right, bottom in pixels; right and bottom are one past the last pixel.
        masks: (N, H, W) bool, or smaller by a stride.
        areas: (N,) pixels of the whole map.
    """

    numbers: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    areas: np.ndarray


def read_panoptic_png(path: str, image_id: Any = None) -> np.ndarray:
    """Ids (H, W) int32 of a COCO panoptic PNG: red + 256 green + 65536 blue; 0 is void. ``image_id`` is for messages.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read, or isn't an image in colours.
    """
    ids, findings = read_map(path, image_id)
    raise_errors(findings)
    assert ids is not None
    return ids


def number_segments(ids: np.ndarray, segment_ids: Sequence[int], name: str, image_id: Any = None) -> np.ndarray:
    """For each pixel 1 + the index of its id in ``segment_ids``, or 0 for void: (H, W), uint8 if that fits, or uint16.

    Args:
        ids: (H, W) integers, as :func:`read_panoptic_png` gives them.
        segment_ids: the ids that the JSON lists.
        name, image_id: of the map, for messages.

    Raises:
        DatasetError: the map has ids that aren't listed, or there are more than 16 bits can number.
    """
    if len(segment_ids) > MOST_SEGMENTS:
        raise DatasetError(f"{name} has {len(segment_ids)} segments; allowed are up to {MOST_SEGMENTS}.")
    runs = find_runs(ids)
    listed = np.array([0, *segment_ids], dtype=np.int64)
    order = np.argsort(listed, kind="stable")
    found = order[np.searchsorted(listed, runs.values, side="right", sorter=order) - 1]
    is_unlisted = listed[found] != runs.values
    if is_unlisted.any():
        first = int(runs.values[is_unlisted].min())
        message = f"has {unlisted_message(first, int(runs.lengths[runs.values == first].sum()))}."
        raise_errors([Place(name, image_id, first).found("png-unlisted", message)])
    kind = np.uint8 if len(segment_ids) < 2**8 else np.uint16
    return np.repeat(found.astype(kind), runs.lengths).reshape(ids.shape)


def transform_numbers(numbers: np.ndarray, transforms: Any) -> np.ndarray:
    """``numbers`` flipped, cropped and resized as a segmentation: nearest pixel, nothing in between."""
    if numbers.dtype == np.uint8:
        return transforms.apply_segmentation(numbers)
    low = transforms.apply_segmentation((numbers % 256).astype(np.uint8))
    high = transforms.apply_segmentation((numbers // 256).astype(np.uint8))
    return high.astype(np.uint16) * 256 + low


def find_segments(numbers: np.ndarray, wanted: np.ndarray, mask_stride: int | None = 1) -> Segments:
    """Boxes, areas and masks of the wanted segments that have a pixel, in the order of their indices.

    The map is read once, as runs of equal pixels; a segment's mask is then made inside its box, so that many small
    segments cost no more than a few large ones.

    Args:
        numbers: (H, W), 1 + the index of a segment, or 0.
        wanted: (M,) bool, for each index.
        mask_stride: how masks are made, see :func:`segment_masks`; None: none are.
    """
    regions = find_regions(numbers)
    kept = np.flatnonzero(np.concatenate([[False], wanted])[regions.values])
    shown, boxes = regions.values[kept] - 1, regions.boxes[kept]
    masks = np.zeros((len(shown), 0, 0), bool)
    if mask_stride is not None:
        masks = segment_masks(numbers, shown + 1, boxes, mask_stride)
    return Segments(shown, boxes.astype(np.float32), masks, regions.areas[kept])


def segment_masks(numbers: np.ndarray, chosen: np.ndarray, boxes: np.ndarray, stride: int = 1) -> np.ndarray:
    """(N, ceil(H / stride), ceil(W / stride)) bool: masks of chosen numbers, every ``stride``-th pixel both ways.

    Each cell of stride x stride pixels is what its middle pixel is. A segment that no middle pixel shows has every cell
    that it touches, so that none is lost.

    Args:
        numbers: (H, W).
        chosen: (N,), each with a pixel in ``numbers``.
        boxes: (N, 4) integers, of the chosen ones: left, top, right, bottom, the last two exclusive.
        stride: from 1 on.
    """
    small = (
        numbers if stride == 1 else numbers[_middles(numbers.shape[0], stride)][:, _middles(numbers.shape[1], stride)]
    )
    masks = np.zeros((len(chosen), *small.shape), bool)
    for mask, number, box in zip(masks, chosen.astype(numbers.dtype), boxes):
        left, top = box[:2] // stride
        right, bottom = -(-box[2:] // stride)
        within = mask[top:bottom, left:right]
        np.equal(small[top:bottom, left:right], number, out=within)
        if stride > 1 and not within.any():
            y, x = np.nonzero(numbers[box[1] : box[3], box[0] : box[2]] == number)
            mask[(y + box[1]) // stride, (x + box[0]) // stride] = True
    return masks


def shrink_masks(masks: np.ndarray, stride: int) -> np.ndarray:
    """Masks (N, H, W), which may overlap, at every ``stride``-th pixel, as :func:`segment_masks` does it."""
    size = masks.shape[1:]
    boxes = np.array([[0, 0, size[1], size[0]]])
    ones = np.ones(1, np.uint8)
    return np.concatenate([segment_masks(mask.view(np.uint8), ones, boxes, stride) for mask in masks])


def _middles(length: int, stride: int) -> np.ndarray:
    """The middle pixel of each cell; of a last cell that is cut off, the last pixel at most."""
    return np.minimum(np.arange(-(-length // stride)) * stride + stride // 2, length - 1)


@dataclass(frozen=True)
class LabelledImage:
    """An image and the segments that it shows.

    Args:
        image: (H, W, 3) uint8.
        numbers: (H, W), uint8 or uint16: 1 + the index of a pixel's segment in ``segments``, or 0 for void.
        segments: what is known of each one: "category_id", "isthing" and, where there is one, "iscrowd".
        name: of the image, for messages.
    """

    image: np.ndarray
    numbers: np.ndarray
    segments: list[dict[str, Any]]
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def wanted(self) -> np.ndarray:
        """(M,) bool: the segments that are targets, which crowds are not."""
        return np.array([not segment.get("iscrowd", 0) for segment in self.segments], dtype=bool)
