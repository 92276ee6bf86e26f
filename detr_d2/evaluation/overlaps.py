"""Panoptic maps, the ground truth's kept as runs between evaluations, and how many pixels their segments share.

Source of boundaries: Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation",
section 5 (Boundary IoU and Boundary PQ) and appendix (2 % of the image's diagonal for COCO). The numbers are those of
the published boundary_iou package: erosion by a square, and the image's edge counts as a boundary. A cut that is a few
pixels off shows there, however large a segment is.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from detr_d2.data.segments import read_panoptic_png

#: Panoptic id of pixels without a label.
VOID = 0
#: Stands for pixels inside of segments in maps of boundaries; segment ids are below it.
INSIDE = 2**24
#: A boundary's width as part of the image's diagonal, as published for COCO.
DILATION_RATIO = 0.02
#: Pairs of ids are counted in a table of at most so many cells, else by sorting them.
_TABLE = 2**20
#: What is kept of ground truth in a process, at most; a COCO image takes about 10 kB, so that it is enough for 25,000.
MOST_BYTES = 2**28


class RunMap:
    """A panoptic map as runs of equal pixels, row after row: small, and counted faster than pixels.

    Args:
        shape: height and width of the map.
        starts: (R,) each run's first pixel in the flattened map; neighbours may be of one id.
        ids: (R,) the segment id of each run, 0 or above.
    """

    def __init__(self, shape: tuple[int, int], starts: np.ndarray, ids: np.ndarray) -> None:
        self.shape = shape
        #: (U,) ids in order; (R,) of each run the place of its id among them, and its pixels, as small integers.
        self.ids, places = np.unique(ids, return_inverse=True)
        self.places = places.astype(_least_type(len(self.ids)))
        lengths = np.diff(starts, append=shape[0] * shape[1])
        self.lengths = lengths.astype(_least_type(int(lengths.max(initial=0))))
        self.nbytes = self.ids.nbytes + self.places.nbytes + self.lengths.nbytes

    def pixels(self) -> np.ndarray:
        """The map, (H, W) of the ids' type."""
        return np.repeat(self.ids[self.places], self.lengths).reshape(self.shape)

    def areas(self) -> dict[int, int]:
        """Pixels of each id, void included, in the order of the ids."""
        return dict(zip(self.ids.tolist(), np.bincount(self.places, self.lengths).astype(np.int64).tolist()))


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


class GroundTruthMaps:
    """Reads panoptic PNGs, and keeps their runs until so much memory is taken; files that change are read anew.

    Args:
        most_bytes: what is kept, at most.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        #: Bytes that are kept.
        self.nbytes = 0
        self._most_bytes = most_bytes
        self._kept: dict[str, tuple[tuple[int, ...], RunMap]] = {}

    def read(self, path: str) -> RunMap:
        """The map of a panoptic PNG; see :func:`read_run_map`."""
        try:
            status = os.stat(path)
            stamp = status.st_mtime_ns, status.st_size, status.st_ino
        except OSError:
            stamp = None
        if path in self._kept:
            known, found = self._kept[path]
            if known == stamp:
                return found
            del self._kept[path]
            self.nbytes -= found.nbytes
        found = read_run_map(path)
        if stamp is not None and self.nbytes + found.nbytes <= self._most_bytes:
            self._kept[path] = stamp, found
            self.nbytes += found.nbytes
        return found


#: Of all evaluations in this process.
GROUND_TRUTH = GroundTruthMaps()


def joint_histogram(
    true_map: np.ndarray | RunMap, predicted_map: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of each pair of ids that meet.

    Neighbours mostly are of one segment, so that runs of equal pairs are counted rather than pixels.

    Args:
        true_map, predicted_map: (H, W) integers, 0 to 2³¹ - 1.

    Returns:
        True ids, predicted ids and pixels, (P,) int64 each, in the order of the ids.

    Raises:
        ValueError: an id is negative.
    """
    predicted_ids = predicted_map.ravel()
    if not predicted_ids.size:
        return (np.zeros(0, np.int64),) * 3
    begins = np.ones(predicted_ids.size, dtype=bool)
    np.not_equal(predicted_ids[1:], predicted_ids[:-1], out=begins[1:])
    if isinstance(true_map, RunMap):
        ends = np.cumsum(true_map.lengths, dtype=np.int64)
        begins[ends[:-1]] = True
    else:
        true_ids = true_map.ravel()
        begins[1:] |= true_ids[1:] != true_ids[:-1]
    starts = np.flatnonzero(begins)
    lengths, second = np.diff(starts, append=predicted_ids.size), predicted_ids[starts].astype(np.int64)
    _require_ids("predicted", second)
    if isinstance(true_map, RunMap):
        places = true_map.places[np.searchsorted(ends, starts, side="right")].astype(np.int64)
        count = int(second.max()) + 1
        if len(true_map.ids) * count <= _TABLE:
            pixels = np.bincount(places * count + second, lengths)  # whole numbers up to 2⁵³ are exact
            found = np.flatnonzero(pixels)
            return true_map.ids[found // count].astype(np.int64), found % count, pixels[found].astype(np.int64)
        first = true_map.ids[places].astype(np.int64)
    else:
        first = true_ids[starts].astype(np.int64)
    _require_ids("true", first)
    pairs = first << 32 | second
    order = np.argsort(pairs)
    pairs = pairs[order]
    heads = np.flatnonzero(np.concatenate(([True], pairs[1:] != pairs[:-1])))
    return pairs[heads] >> 32, pairs[heads] & 0xFFFFFFFF, np.add.reduceat(lengths[order], heads)


def _require_ids(name: str, ids: np.ndarray) -> None:
    if ids.min() < 0:
        raise ValueError(f"the {name} map has the id {ids.min()}; ids are 0 (void) and above.")


def _least_type(most: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if most < 2**8 else np.uint16 if most < 2**16 else np.uint32


def segment_areas(ids: np.ndarray) -> dict[int, int]:
    """Pixels of each id of a map (H, W), void included, in the order of the ids."""
    found, _, pixels = joint_histogram(ids, ids)
    return dict(zip(found.tolist(), pixels.tolist()))


class Overlaps:
    """Pixels of each pair (true id, predicted id) of two maps, and what follows from them.

    Args:
        true_map, predicted_map: (H, W) integers, the segment id of each pixel.

    Raises:
        ValueError: an id is negative.
    """

    def __init__(self, true_map: np.ndarray | RunMap, predicted_map: np.ndarray) -> None:
        self._fill(zip(*(part.tolist() for part in joint_histogram(true_map, predicted_map))))

    @classmethod
    def of_pairs(cls, entries: Iterable[Sequence[int]]) -> Overlaps:
        """Overlaps that have been counted before: true id, predicted id and pixels, in the order of the ids."""
        overlaps = cls.__new__(cls)
        overlaps._fill(entries)
        return overlaps

    def _fill(self, entries: Iterable[Sequence[int]]) -> None:
        self.pairs: dict[tuple[int, int], int] = {}
        self.true_areas: dict[int, int] = defaultdict(int)
        self.predicted_areas: dict[int, int] = defaultdict(int)
        for true_id, predicted_id, count in entries:
            self.pairs[true_id, predicted_id] = count
            self.true_areas[true_id] += count
            self.predicted_areas[predicted_id] += count

    def as_entries(self) -> list[list[int]]:
        """True id, predicted id and pixels of each pair; :meth:`of_pairs` reads it."""
        return [[true_id, predicted_id, count] for (true_id, predicted_id), count in self.pairs.items()]

    @cached_property
    def on(self) -> dict[int, dict[int, int]]:
        """By predicted id the true ids that it meets, void included, and the pixels of each."""
        found: dict[int, dict[int, int]] = defaultdict(dict)
        for (true_id, predicted_id), count in self.pairs.items():
            found[predicted_id][true_id] = count
        return found

    def pixels(self, true_id: int, predicted_id: int) -> int:
        """Pixels that are of both segments."""
        return self.pairs.get((true_id, predicted_id), 0)

    def counted_area(self, predicted_id: int) -> int:
        """A predicted segment's pixels that aren't void in the ground truth."""
        return self.predicted_areas[predicted_id] - self.pixels(VOID, predicted_id)

    def iou(self, true_id: int, *predicted_ids: int) -> float:
        """IoU of a true segment with the union of predicted ones; true void doesn't count, classes don't either."""
        shared = sum(self.pixels(true_id, predicted_id) for predicted_id in predicted_ids)
        areas = sum(self.counted_area(predicted_id) for predicted_id in predicted_ids) + self.true_areas[true_id]
        return shared / (areas - shared) if shared else 0.0

    def home(self, predicted_id: int) -> int:
        """The true id, perhaps void, that has the largest part of a predicted segment; the lowest one of equals."""
        return min(self.on[predicted_id].items(), key=lambda item: (-item[1], item[0]))[0]

    def mostly_on(self, predicted_id: int, true_id: int) -> bool:
        """More than half of a predicted segment, void not counted, lies on a true one."""
        return 2 * self.pixels(true_id, predicted_id) > self.counted_area(predicted_id)

    def mostly_under(self, true_id: int, predicted_id: int) -> bool:
        """More than half of a true segment is covered by a predicted one."""
        return 2 * self.pixels(true_id, predicted_id) > self.true_areas[true_id]


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
