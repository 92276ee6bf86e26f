"""Ids of segments as colours of a COCO panoptic PNG: red + 256 green + 65536 blue; 0 is void."""

from __future__ import annotations

import numpy as np

#: The largest id that three bytes of colour hold.
MAX_SEGMENT_ID = 256**3 - 1


def ids_of_colors(colors: np.ndarray) -> np.ndarray:
    """Ids (H, W) int32 of (H, W, 3) red, green, blue."""
    channels = colors.astype(np.int32)
    return channels[:, :, 0] + 256 * channels[:, :, 1] + 65536 * channels[:, :, 2]


def colors_of_ids(ids: np.ndarray) -> np.ndarray:
    """Red, green, blue (H, W, 3) uint8 of ids (H, W)."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
