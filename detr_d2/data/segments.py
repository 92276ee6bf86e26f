"""Panoptic pictures: from a PNG's ids to labels, boxes and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DatasetError, MissingFileError


@dataclass(frozen=True)
class Segments:
    """The segments that a picture shows.

    Args:
        numbers: (N,) which of the picture's ``segments_info`` each one is.
        boxes: (N, 4) float32, left, top, right, bottom in pixels; right and bottom are one past the last pixel.
        masks: (N, H, W) bool.
        areas: (N,) pixels.
    """

    numbers: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    areas: np.ndarray


def read_panoptic_png(path: str) -> np.ndarray:
    """Ids (H, W) int32 of a COCO panoptic PNG: red + 256 green + 65536 blue; 0 is void.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read, or isn't a picture in colours.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("RGB", "RGBA") or picture.format == "JPEG":
                raise DatasetError(
                    f"{path} is a {picture.format} of mode {picture.mode}; a panoptic picture is a PNG in RGB, whose "
                    "colours are ids. Export it again."
                )
            colors = np.asarray(picture.convert("RGBA"))
    except FileNotFoundError as error:
        raise MissingFileError(f"the panoptic picture {path} isn't there.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"the panoptic picture {path} can't be read: {error}") from error
    four_bytes = np.ascontiguousarray(colors).view("<u4")[:, :, 0]  # red is the lowest, alpha the highest
    return (four_bytes & 0xFFFFFF).astype(np.int32)


def number_segments(ids: np.ndarray, segment_ids: Sequence[int], place: str) -> np.ndarray:
    """For each pixel 1 + the place of its id in ``segment_ids``, or 0 for void.

    Args:
        ids: (H, W) integers, as :func:`read_panoptic_png` gives them.
        segment_ids: the ids that the JSON lists.
        place: names the picture in the message.

    Returns:
        (H, W), uint8 where the numbers fit, else uint16.

    Raises:
        DatasetError: the picture has ids that aren't listed.
    """
    if len(segment_ids) >= 2**16:
        raise DatasetError(f"{place} has {len(segment_ids)} segments; allowed are up to {2**16 - 1}.")
    table = np.zeros(256**3, np.uint8 if len(segment_ids) < 2**8 else np.uint16)  # untouched pages cost nothing
    table[np.asarray(segment_ids, dtype=np.int64)] = np.arange(1, len(segment_ids) + 1)
    numbers = table[ids]
    unlisted = ids[(numbers == 0) & (ids != 0)]
    if unlisted.size:
        names = ", ".join(map(str, np.unique(unlisted)[:5]))
        raise DatasetError(
            f"{place}: its panoptic PNG has segment ids that the JSON doesn't list ({names}). "
            "The two come from different exports; take both from one."
        )
    return numbers


def transform_numbers(numbers: np.ndarray, transforms: Any) -> np.ndarray:
    """``numbers`` flipped, cropped and resized as a segmentation: nearest pixel, nothing in between."""
    if numbers.dtype == np.uint8:
        return transforms.apply_segmentation(numbers)
    low = transforms.apply_segmentation((numbers % 256).astype(np.uint8))
    high = transforms.apply_segmentation((numbers // 256).astype(np.uint8))
    return high.astype(np.uint16) * 256 + low


def find_segments(numbers: np.ndarray, wanted: np.ndarray) -> Segments:
    """Boxes, masks and areas of the wanted segments that have a pixel.

    Args:
        numbers: (H, W), 1 + the place of a segment, or 0.
        wanted: (M,) bool, for each place.

    Returns:
        The segments in the order of their places.
    """
    areas = np.bincount(numbers.ravel(), minlength=len(wanted) + 1)[1:]
    shown = np.flatnonzero(wanted & (areas > 0))
    of_segment = (shown + 1).astype(numbers.dtype)
    masks: np.ndarray = numbers[None] == of_segment[:, None, None]
    return Segments(shown, mask_boxes(masks), masks, areas[shown])


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) float32 of masks (N, H, W), none of them empty: left, top, right, bottom, the last two exclusive."""
    height, width = masks.shape[1:]
    columns, rows = np.logical_or.reduce(masks, axis=1), np.logical_or.reduce(masks, axis=2)
    left, top = columns.argmax(axis=1), rows.argmax(axis=1)
    right, bottom = width - columns[:, ::-1].argmax(axis=1), height - rows[:, ::-1].argmax(axis=1)
    return np.stack([left, top, right, bottom], axis=1).astype(np.float32)
