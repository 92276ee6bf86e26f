"""The maps of a dataset's ground truth, kept as runs between the evaluations of a training."""

from __future__ import annotations

import os

import numpy as np

from detr_d2.data import read_panoptic_png
from detr_d2.evaluation.overlaps import RunMap

#: What is kept in a process, at most; a COCO image takes about 10 kB, so that it is enough for 25,000.
MOST_BYTES = 2**28


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
    """A panoptic PNG as runs.

    Pillow decodes it. torchvision takes two thirds of its time, and crashes at PNGs that are damaged.

    Raises:
        MissingFileError, DatasetError: see :func:`detr_d2.data.read_panoptic_png`.
    """
    ids = read_panoptic_png(path)
    flat = ids.ravel()
    starts = np.flatnonzero(np.concatenate((flat[:1] == flat[:1], flat[1:] != flat[:-1])))
    return RunMap((ids.shape[0], ids.shape[1]), starts, flat[starts])


def _stamp(path: str) -> tuple[int, ...] | None:
    """What changes when a file does; None where it isn't there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
