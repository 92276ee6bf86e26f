"""Masks as run lengths, as COCO has them: pixels off, on, off, ... in turn, column by column; compressed, or a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) in pycocotools' compressed run lengths."""
    runs: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return runs


def encoded_window(window: np.ndarray, left: int, top: int, size: tuple[int, int]) -> dict[str, Any]:
    """As :func:`encoded`, of a mask that is all in a window: of a large image in a small part of the time.

    Args:
        window: (h, w) bool.
        left, top: where its upper left corner is.
        size: height and width of the image.
    """
    ended = np.pad(window.T.astype(np.int8), ((0, 0), (1, 1)))  # so that runs end with their column
    columns, changes = np.nonzero(np.diff(ended))
    places = (left + columns) * size[0] + top + changes
    joins = 1 + 2 * np.flatnonzero(places[1:-1:2] == places[2::2])  # a column's end where the next one begins
    places = np.delete(places, [*joins, *(joins + 1)])
    ends = [] if len(places) and places[-1] == size[0] * size[1] else [size[0] * size[1]]
    counts = np.diff([0, *places, *ends]).tolist()
    runs: dict[str, Any] = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)
    return runs


def compressed(runs: Mapping[str, Any]) -> dict[str, Any]:
    """pycocotools' run lengths as JSON holds them."""
    return {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")}


def decompressed(text: str) -> list[int] | None:
    """Run lengths from COCO's compressed form; None where the text isn't that.

    Numbers are written in groups of five bits, the low ones first, as characters from ``0`` on; 32 says that another
    group follows, the last group's 16 is the sign, and from the fourth run on the difference to the run two before is
    written. pycocotools reads the same, but reads on behind the end of a text that breaks off.

    Source: COCO's mask API.
    """
    if not text.isascii():
        return None
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    ends = np.flatnonzero(codes < 32)
    starts = np.concatenate([[0], ends[:-1] + 1])
    groups = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if groups.max() > 6:
        return None
    values = np.add.reduceat((codes & 31) << (5 * groups), starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * (ends - starts + 1)), 0)
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    if len(values) > 2:
        runs[2::2] = np.cumsum(values[2::2])
    result: list[int] = runs.tolist()
    return result


def run_lengths(mask: np.ndarray) -> list[int]:
    """Pixels off, on, off, ... in turn, column by column, of (H, W) bool."""
    pixels = mask.T.ravel()
    edges = np.flatnonzero(np.diff(pixels, prepend=False))
    result: list[int] = np.diff(edges, prepend=0, append=pixels.size).tolist()
    return result
