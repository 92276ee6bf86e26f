"""Ids of segments as colours of a COCO panoptic PNG: red + 256 green + 65536 blue; 0 is void."""

from __future__ import annotations

import numpy as np

Color = tuple[int, int, int]
#: The largest id that three bytes of colour hold.
MAX_SEGMENT_ID = 256**3 - 1


def id_of_color(color: Color) -> int:
    """The id that a colour stands for."""
    red, green, blue = color
    return red + 256 * green + 65536 * blue


def color_of_id(number: int) -> Color:
    """The colour that stands for an id."""
    return number % 256, number // 256 % 256, number // 65536


def ids_of_colors(colors: np.ndarray) -> np.ndarray:
    """Ids (H, W) int32 of (H, W, 3) red, green, blue."""
    ids = colors[..., 2].astype(np.int32)
    for channel in (1, 0):  # in place, as images of labels may be large
        ids <<= 8
        ids |= colors[..., channel]
    return ids


def colors_of_ids(ids: np.ndarray) -> np.ndarray:
    """Red, green, blue (H, W, 3) uint8 of ids (H, W)."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def numbers_of(ids: np.ndarray) -> tuple[list[int], np.ndarray]:
    """What stands in an array, ascending, and the index of each pixel's value in that, (H, W) int32.

    Runs of equal pixels, of which maps of segments have few, are looked at once.

    Args:
        ids: (H, W), whole numbers.
    """
    flat = ids.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    values, of_run = np.unique(flat[starts], return_inverse=True)
    numbers = np.repeat(of_run.astype(np.int32), np.diff(starts, append=flat.size))
    return values.tolist(), numbers.reshape(ids.shape)
