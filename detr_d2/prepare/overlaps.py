"""One pixel, one segment: who gets what several labels claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detr_d2.errors import DatasetError

from .options import Overlap

#: Two labels overlap when they share so many pixels and more than this share of the smaller one; less is a shaky hand.
OVERLAP_PIXELS, OVERLAP_SHARE = 4, 0.01
_FEW = 12


@dataclass(frozen=True)
class Drawn:
    """A label drawn into its picture.

    Args:
        mask: (H, W) bool, with a pixel at least.
        area: its pixels.
        z_order: CVAT's layer.
        is_crowd: of a crowd, which lies below everything else.
        label_id: for messages.
    """

    mask: np.ndarray
    area: int
    z_order: int = 0
    is_crowd: bool = False
    label_id: int = 0


def drawing_order(drawn: Sequence[Drawn], policy: Overlap) -> list[int]:
    """Places in ``drawn``, which is in the file's order, from the lowest to what lies on top of everything.

    Args:
        drawn: labels of a picture.
        policy: ``small-on-top``: the fewer pixels, the higher (``error``, too, where labels share next to nothing);
            ``z-order``: CVAT's layers, and the later label within a layer; ``file-order``: the earlier label;
            ``last``: the later one. Crowds are below all that isn't one.
    """
    order = range(len(drawn))
    if policy == "file-order":
        return sorted(order, key=lambda i: (not drawn[i].is_crowd, -i))
    if policy == "last":
        return sorted(order, key=lambda i: (not drawn[i].is_crowd, i))
    if policy == "z-order":
        return sorted(order, key=lambda i: (not drawn[i].is_crowd, drawn[i].z_order, i))
    return sorted(order, key=lambda i: (not drawn[i].is_crowd, -drawn[i].area, i))


def paint(drawn: Sequence[Drawn], policy: Overlap, size: tuple[int, int]) -> np.ndarray:
    """The picture of labels: for each pixel 1 + the place in ``drawn`` of the label on top, 0 where there is none.

    Args:
        drawn: in the file's order.
        policy: see :func:`drawing_order`.
        size: height, width.

    Returns:
        (H, W) uint16.

    Raises:
        DatasetError: there are 65,535 labels or more.
    """
    if len(drawn) >= 2**16 - 1:
        raise DatasetError(f"it has {len(drawn)} labels; allowed are up to {2**16 - 2}.")
    canvas = np.zeros(size, np.uint16, order="F")  # as pycocotools' masks are
    for place in drawing_order(drawn, policy):
        np.copyto(canvas, place + 1, where=drawn[place].mask)
    return canvas


def pixel_counts(canvas: np.ndarray, count: int) -> np.ndarray:
    """(count,) how many pixels of ``canvas`` are 1, 2, ..., ``count``."""
    if count <= _FEW:  # counting each by itself is quicker than numpy's bincount, which makes them all 64 bits first
        return np.array([np.count_nonzero(canvas == number + 1) for number in range(count)], dtype=np.int64)
    return np.bincount(canvas.ravel("K"), minlength=count + 1)[1:]


def overlapping_pairs(drawn: Sequence[Drawn], canvas: np.ndarray) -> list[tuple[int, int, int]]:
    """Pairs of labels, not crowds, that share more than a shaky hand explains: two places and the shared pixels.

    Args:
        drawn: in the file's order.
        canvas: of :func:`paint`; labels that are wholly visible there share nothing with what is below them.
    """
    visible = pixel_counts(canvas, len(drawn))
    pairs = []
    hidden = [place for place, one in enumerate(drawn) if not one.is_crowd and visible[place] < one.area]
    for lower in hidden:
        mask = drawn[lower].mask
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        for upper, other in enumerate(drawn):
            if upper == lower or other.is_crowd:
                continue
            shared = int(np.count_nonzero(mask[window] & other.mask[window]))
            smaller = min(drawn[lower].area, other.area)
            if shared >= OVERLAP_PIXELS and shared > OVERLAP_SHARE * smaller:
                pairs.append((min(lower, upper), max(lower, upper), shared))
    return sorted(set(pairs))
