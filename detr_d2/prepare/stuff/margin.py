"""The ring around what people labelled, in which nobody else's labels count."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage


def beyond_margin(free: np.ndarray, margin: int) -> np.ndarray:
    """Where ``free`` is on and everything within ``margin`` pixels, measured as the crow flies, is on too.

    Args:
        free: (H, W) bool; what lies outside of the picture counts as free.
        margin: in pixels; 0 changes nothing.

    Returns:
        (H, W) bool.
    """
    if margin < 1 or free.all() or not free.any():
        return free
    rows, columns = np.flatnonzero(~free.all(axis=1)), np.flatnonzero(~free.all(axis=0))
    reach = math.ceil(margin) + 1
    window = (
        slice(max(rows[0] - reach, 0), rows[-1] + reach + 1),
        slice(max(columns[0] - reach, 0), columns[-1] + reach + 1),
    )
    result = free.copy()
    result[window] = ndimage.distance_transform_edt(free[window]) > margin
    return result
