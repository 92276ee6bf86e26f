"""Boundaries of the segments of a panoptic map: a cut that is a few pixels off shows there, however large a segment is.

Source: Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", section 5 (Boundary
IoU and Boundary PQ) and appendix (2 % of the image's diagonal for COCO). The numbers are those of the published
boundary_iou package: erosion by a square, and the image's edge counts as a boundary.
"""

from __future__ import annotations

import numpy as np

from detr_d2.evaluation.overlaps import VOID, Overlaps

#: A boundary's width as part of the image's diagonal, as published for COCO.
DILATION_RATIO = 0.02
#: Stands for pixels inside of segments; segment ids are below it.
INSIDE = 2**24


def boundary_width(height: int, width: int, dilation_ratio: float = DILATION_RATIO) -> int:
    """Pixels from a segment's edge inwards that are its boundary; at least 1."""
    return max(1, round(dilation_ratio * float(np.sqrt(height**2 + width**2))))


def boundary_map(ids: np.ndarray, width: int) -> np.ndarray:
    """A map of boundaries only: pixels inside of segments are :data:`INSIDE`, those of void stay void.

    A pixel is inside if the square of ``2 * width + 1`` pixels around it is in the image and of one segment. Sums
    over squares are differences of running sums, so that the width costs nothing.

    Args:
        ids: (H, W) integers.
        width: of a boundary, in pixels.

    Returns:
        (H, W) int32.
    """
    height, length = ids.shape
    result = ids.astype(np.int32)
    rows, columns = height - 2 * width, length - 2 * width
    if rows <= 0 or columns <= 0:
        return result
    # How often the id changes along a row up to each pixel; counts may wrap, as only equality matters.
    changes = np.zeros((height, length), dtype=np.uint16)
    np.cumsum(ids[:, 1:] != ids[:, :-1], axis=1, dtype=np.uint16, out=changes[:, 1:])
    # (H, columns): the row's piece around each pixel isn't of one id.
    mixed = changes[:, 2 * width :] != changes[:, :columns]
    # The square is of one id if all of its rows are, and its middle column is.
    middle = ids[:, width : width + columns]
    breaks = middle[1:] != middle[:-1]
    breaks |= mixed[:-1]
    breaks |= mixed[1:]
    sums = np.zeros((height, columns), dtype=np.uint16)
    np.cumsum(breaks, axis=0, dtype=np.uint16, out=sums[1:])
    inside = sums[2 * width :] == sums[:rows]
    center = result[width : width + rows, width : width + columns]
    inside &= center != VOID
    center[inside] = INSIDE
    return result


def boundary_overlaps(true_map: np.ndarray, predicted_map: np.ndarray, width: int) -> Overlaps:
    """Overlaps of boundaries; the true side has :data:`VOID`, and both have :data:`INSIDE`, as further ids."""
    return Overlaps(boundary_map(true_map, width), boundary_map(predicted_map, width))
