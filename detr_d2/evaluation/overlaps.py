"""How many pixels the segments of two panoptic maps share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

#: Panoptic id of pixels without a label.
VOID = 0


def joint_histogram(true_map: np.ndarray, predicted_map: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of each pair of ids that meet.

    Neighbours mostly are of one segment, so that runs of equal pairs are counted rather than pixels.

    Args:
        true_map, predicted_map: (H, W) integers, 0 to 2³¹ - 1.

    Returns:
        True ids, predicted ids and pixels, (P,) int64 each, in the order of the ids.

    Raises:
        ValueError: an id is negative.
    """
    true_ids, predicted_ids = true_map.ravel(), predicted_map.ravel()
    if not true_ids.size:
        return (np.zeros(0, np.int64),) * 3
    begins = np.ones(true_ids.size, dtype=bool)
    np.not_equal(true_ids[1:], true_ids[:-1], out=begins[1:])
    begins[1:] |= predicted_ids[1:] != predicted_ids[:-1]
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=true_ids.size)
    first, second = true_ids[starts].astype(np.int64), predicted_ids[starts].astype(np.int64)
    for name, values in (("true", first), ("predicted", second)):
        if values.min() < 0:
            raise ValueError(f"the {name} map has the id {values.min()}; ids are 0 (void) and above.")
    pairs = first << 32 | second
    order = np.argsort(pairs)
    pairs = pairs[order]
    heads = np.flatnonzero(np.concatenate(([True], pairs[1:] != pairs[:-1])))
    return pairs[heads] >> 32, pairs[heads] & 0xFFFFFFFF, np.add.reduceat(lengths[order], heads)


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

    def __init__(self, true_map: np.ndarray, predicted_map: np.ndarray) -> None:
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

    @cached_property
    def under(self) -> dict[int, dict[int, int]]:
        """By true id the predicted ids that it meets, void included, and the pixels of each."""
        found: dict[int, dict[int, int]] = defaultdict(dict)
        for (true_id, predicted_id), count in self.pairs.items():
            found[true_id][predicted_id] = count
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
