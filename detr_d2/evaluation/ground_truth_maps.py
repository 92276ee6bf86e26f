"""The maps of a dataset's ground truth, kept as runs between the evaluations of a training."""

from __future__ import annotations

import os

import numpy as np
import torch

from detr_d2.data import read_panoptic_png
from detr_d2.evaluation.overlaps import RunMap
from detr_d2.files import open_regular

try:  # torchvision plans to leave decoding to another package some day; Pillow reads everything then
    from torchvision.io import decode_png
except ImportError:
    decode_png = None

#: What is kept in a process, at most; a COCO image takes about 10 kB, so that it is enough for 25,000.
MOST_BYTES = 2**28
#: A PNG begins with this; then come its header, whose kind of colours is RGB (2) or RGBA (6), of 8 bits each.
_PNG, _BITS, _COLORS = b"\x89PNG\r\n\x1a\n", 24, 25


class GroundTruthMaps:
    """Reads panoptic PNGs, and keeps their runs until so much memory is taken; files that change are read anew.

    Args:
        most_bytes: what is kept, at most.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._kept: dict[str, tuple[tuple[int, ...], RunMap]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return self._bytes

    def read(self, path: str) -> RunMap:
        """The map of a panoptic PNG.

        Raises:
            MissingFileError, DatasetError: see :func:`detr_d2.data.read_panoptic_png`.
        """
        stamp = _stamp(path)
        known, found = self._kept.get(path, (None, None))
        if found is not None and known == stamp:
            return found
        self._kept.pop(path, None)
        self._bytes -= found.nbytes if found is not None else 0
        found = read_run_map(path)
        if stamp is not None and self._bytes + found.nbytes <= self._most_bytes:
            self._kept[path] = stamp, found
            self._bytes += found.nbytes
        return found


#: Of all evaluations in this process.
GROUND_TRUTH = GroundTruthMaps()


def read_run_map(path: str) -> RunMap:
    """A panoptic PNG as runs, decoded by torchvision, which is faster than Pillow.

    Raises:
        MissingFileError, DatasetError: see :func:`detr_d2.data.read_panoptic_png`.
    """
    colors = _decoded(path)
    if colors is None:  # Pillow reads it all the same, or says what is wrong
        ids = read_panoptic_png(path)
        begins = np.flatnonzero(ids.ravel()[1:] != ids.ravel()[:-1]) + 1
        starts = np.concatenate((np.zeros(min(ids.size, 1), np.int64), begins))
        return RunMap((ids.shape[0], ids.shape[1]), starts, ids.ravel()[starts])
    height, width, channels = colors.shape
    flat = colors.reshape(-1)
    changed = np.flatnonzero(flat[channels:] != flat[:-channels]) // channels + 1
    starts = np.concatenate(([0], changed[np.diff(changed, prepend=0) > 0]))
    first = colors.reshape(-1, channels)[starts, :3].astype(np.int32)
    return RunMap((height, width), starts, first @ np.array([1, 2**8, 2**16], np.int32))


def _decoded(path: str) -> np.ndarray | None:
    """(H, W, 3 or 4) uint8; None where the file isn't an RGB PNG of 8 bits a channel that torchvision can read."""
    try:
        with open_regular(path) as file:
            content = bytearray(file.read())
        if decode_png is None or content[:8] != _PNG or content[_BITS] != 8 or content[_COLORS] not in (2, 6):
            return None
        decoded = decode_png(torch.frombuffer(content, dtype=torch.uint8))
    except Exception:  # whatever is wrong, Pillow is asked, and its error is told
        return None
    return np.ascontiguousarray(decoded.permute(1, 2, 0).numpy())


def _stamp(path: str) -> tuple[int, ...] | None:
    """What changes when a file does; None where it isn't there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
