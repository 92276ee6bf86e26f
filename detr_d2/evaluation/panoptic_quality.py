"""Panoptic quality: how well predicted segments cover the true ones, class by class.

Source: Kirillov et al. 2019, "Panoptic Segmentation", section 4. Sums are made in the order of COCO's panopticapi, so
that the numbers are the same to the last digit.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np

from detr_d2.evaluation.matching import Count, Segment, compare_maps
from detr_d2.evaluation.overlaps import RunMap

if TYPE_CHECKING:
    from scipy import sparse

IOU, TRUE_POSITIVES, FALSE_POSITIVES, FALSE_NEGATIVES = range(4)


@dataclass(frozen=True)
class Quality:
    """PQ = SQ * RQ of one class, or the means over ``n`` classes; NaN where there is nothing to judge."""

    pq: float
    sq: float
    rq: float
    n: int


class PanopticQuality:
    """Counts of images: for each class the sum of IoU, true positives, false positives and false negatives.

    They add up in ``totals``, (4, K); what each image adds is kept (as much as it has segments), for resampling.

    Args:
        num_classes: contiguous class ids are 0 ... num_classes - 1.
        keep_images: keep what each image adds; without it no memory grows, and only the totals are known.
    """

    def __init__(self, num_classes: int, keep_images: bool = True) -> None:
        self.num_classes = num_classes
        self.keep_images = keep_images
        self.totals = np.zeros((4, num_classes))
        # What Count has of each segment of all images, one behind the other, and how many segments each image has:
        # an array for each image would take twice as much.
        self._counts, self._segments = array("d"), array("q")

    def __len__(self) -> int:
        """Images."""
        return len(self._segments)

    @property
    def iou(self) -> np.ndarray:
        """(K,) sums of the matches' IoU."""
        return self.totals[IOU]

    @property
    def true_positives(self) -> np.ndarray:
        """(K,) int64; as are the two below."""
        return self.totals[TRUE_POSITIVES].astype(np.int64)

    @property
    def false_positives(self) -> np.ndarray:
        """(K,) wrong predicted segments."""
        return self.totals[FALSE_POSITIVES].astype(np.int64)

    @property
    def false_negatives(self) -> np.ndarray:
        """(K,) missed true segments."""
        return self.totals[FALSE_NEGATIVES].astype(np.int64)

    def update(
        self,
        true_map: np.ndarray | RunMap,
        true_segments: Sequence[Segment],
        predicted_map: np.ndarray,
        predicted_segments: Sequence[Segment],
    ) -> None:
        """Add one image; see :func:`detr_d2.evaluation.matching.compare_maps`."""
        image = compare_maps(true_map, true_segments, predicted_map, predicted_segments, self.num_classes)
        self.add(image.counts().values())

    def add(self, counts: Iterable[Count]) -> None:
        """Add an image whose segments have been matched."""
        rows = np.array(list(counts), np.float64).reshape(-1, len(Count._fields))
        # One after the other, as the last digit depends on the order.
        np.add.at(self.totals.T, rows[:, 0].astype(np.int64), rows[:, 1:])
        if self.keep_images:
            self._counts.frombytes(rows.tobytes())
            self._segments.append(len(rows))

    def merge(self, other: PanopticQuality) -> None:
        """Add the images of another part of the dataset behind these."""
        self.totals += other.totals
        self._counts += other._counts
        self._segments += other._segments

    def changed(self, change: np.ndarray) -> PanopticQuality:
        """The counts with ``change``, (4, K), added to their totals; no images are known then."""
        result = PanopticQuality(self.num_classes)
        result.totals = self.totals + change
        return result

    def of_class(self, label: int) -> Quality:
        """Quality of one class; ``n`` is 0 where it is neither in the ground truth nor predicted."""
        pq, sq, rq = class_qualities(self.totals[:, label : label + 1])[0].tolist()
        return Quality(pq, sq, rq, int(not math.isnan(pq)))

    def average(self, labels: Sequence[int]) -> Quality:
        """Means over those of the classes that are in the ground truth or were predicted."""
        present = [
            values for values in class_qualities(self.totals)[list(labels)].tolist() if not math.isnan(values[0])
        ]
        n = len(present)
        if not n:
            return Quality(math.nan, math.nan, math.nan, 0)
        # One after the other, as panopticapi does; sum() rounds otherwise since Python 3.12.
        pq, sq, rq = (reduce(add, values) / n for values in zip(*present))
        return Quality(pq, sq, rq, n)

    def usual_iou(self) -> np.ndarray:
        """(K,): the mean IoU of each class's matches; of all matches where it has none; 1 where there is none."""
        matches = self.totals[TRUE_POSITIVES]
        overall = float(self.iou.sum() / matches.sum()) if matches.sum() else 1.0
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(matches > 0, self.iou / matches, overall)

    def images_of_classes(self) -> np.ndarray:
        """(K,) images in which each class is, or was predicted."""
        count, matrix = self.num_classes, self.matrix()
        blocks = [matrix[:, kind * count : (kind + 1) * count] for kind in range(TRUE_POSITIVES, 4)]
        return np.asarray((sum(blocks[1:], blocks[0]) > 0).sum(axis=0)).ravel()

    def matrix(self) -> sparse.csr_array:
        """(N, 4 K): a row an image; the columns are the classes' sums of IoU, then their TP, FP and FN."""
        from scipy import sparse  # numbers without intervals needn't wait for it

        count = self.num_classes
        rows = np.asarray(self._counts).reshape(-1, len(Count._fields))
        images = np.repeat(np.arange(len(self)), np.asarray(self._segments))
        keys, places = np.unique(images * count + rows[:, 0].astype(np.int64), return_inverse=True)
        sums = np.zeros((len(keys), 4))
        np.add.at(sums, places, rows[:, 1:])
        columns = keys[:, None] % count + count * np.arange(4)
        where = (np.repeat(keys // count, 4), columns.ravel())
        matrix = sparse.csr_array((sums.ravel(), where), shape=(len(self), 4 * count))
        matrix.eliminate_zeros()
        return matrix


def image_quality(counts: Collection[Count]) -> float:
    """PQ of one image, as a part of 1: the mean over the classes that it has or is said to have; NaN for none."""
    quality = PanopticQuality(max((count.label for count in counts), default=0) + 1)
    quality.add(counts)
    return quality.average(range(quality.num_classes)).pq


def class_qualities(totals: np.ndarray) -> np.ndarray:
    """PQ, SQ and RQ (..., K, 3) of counts (..., 4, K), as parts of 1; NaN where a class is absent."""
    iou, tp, fp, fn = (totals[..., kind, :] for kind in range(4))
    segments = tp + 0.5 * fp + 0.5 * fn
    with np.errstate(invalid="ignore", divide="ignore"):
        sq = np.where(tp > 0, iou / tp, np.where(segments > 0, 0.0, np.nan))
        return np.stack([iou / segments, sq, tp / segments], axis=-1)
