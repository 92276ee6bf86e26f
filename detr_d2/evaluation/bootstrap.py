"""How far panoptic quality would move with other pictures of the same kind: bootstrap intervals.

Pictures are drawn with replacement, as many as there are, many times; the quality of each draw comes from the
pictures' own sums, so that no picture is looked at again.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detr_d2.evaluation.panoptic_quality import Matches

if TYPE_CHECKING:
    from scipy import sparse

#: Draws (rows of pictures' counts) that are in memory at once.
_CHUNK_VALUES = 2**22
_IOU, _TP, _FP, _FN = range(4)


class PictureSums:
    """What each picture adds to each class: sum of IoU, true positives, false positives, false negatives.

    Only what isn't zero is kept.

    Args:
        num_classes: contiguous class ids are 0 ... num_classes - 1.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, matches: Matches) -> None:
        """Add a picture."""
        sums: dict[int, float] = {}
        entries = [(_IOU, label, iou) for label, iou in matches.true_positives]
        entries += [(_TP, label, 1.0) for label, _ in matches.true_positives]
        entries += [(_FP, label, 1.0) for label in matches.false_positives]
        entries += [(_FN, label, 1.0) for label in matches.false_negatives]
        for kind, label, value in entries:
            column = kind * self.num_classes + label
            sums[column] = sums.get(column, 0.0) + value
        self._rows.append((np.array(list(sums), dtype=np.int32), np.array(list(sums.values()))))

    def extend(self, other: PictureSums) -> None:
        """Add the pictures of another part of the dataset behind these."""
        self._rows.extend(other._rows)

    def pictures_of_classes(self) -> np.ndarray:
        """(K,) pictures in which each class is, or was predicted."""
        matrix = self.matrix()
        blocks = [matrix[:, kind * self.num_classes : (kind + 1) * self.num_classes] for kind in (_TP, _FP, _FN)]
        return np.asarray((sum(blocks[1:], blocks[0]) > 0).sum(axis=0)).ravel()

    def matrix(self) -> sparse.csr_array:
        """(P, 4 K): a row a picture; the columns are the classes' sums of IoU, then their TP, FP and FN."""
        from scipy import sparse  # numbers without intervals needn't wait for it

        starts = np.cumsum([0] + [len(columns) for columns, _ in self._rows])
        columns = np.concatenate([columns for columns, _ in self._rows] or [np.zeros(0, np.int32)])
        values = np.concatenate([values for _, values in self._rows] or [np.zeros(0)])
        return sparse.csr_array((values, columns, starts), shape=(len(self._rows), 4 * self.num_classes))


@dataclass(frozen=True)
class Intervals:
    """Lower and upper ends of PQ, SQ and RQ, as parts of 1; NaN where there is nothing to judge.

    Args:
        groups: by name, (3, 2): PQ, SQ, RQ by lower and upper end.
        classes: (K, 3, 2).
        resamples: draws that they come from.
        confidence: the part of the draws between the two ends.
    """

    groups: dict[str, np.ndarray]
    classes: np.ndarray
    resamples: int
    confidence: float


def bootstrap_intervals(
    sums: PictureSums,
    groups: Mapping[str, Sequence[int]],
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Intervals:
    """Percentile intervals of PQ, SQ and RQ over pictures, for each class and for means over classes.

    In each draw a class that none of its pictures has is left out of the means, as in the quality itself.

    Args:
        sums: of the pictures that were evaluated.
        groups: name to the classes whose mean it is.
        resamples: draws.
        seed: another seed, other draws.
        confidence: between 0 and 1.

    Raises:
        ValueError: ``resamples`` or ``confidence`` is out of range, or there is no picture.
    """
    _check_draws(sums, resamples, confidence)
    qualities = np.concatenate([_qualities(totals) for totals in _resampled(sums, resamples, seed)])
    means = {name: _mean_over_classes(qualities[:, list(labels)]) for name, labels in groups.items()}
    return Intervals(
        {name: _percentiles(mean, confidence) for name, mean in means.items()},
        _percentiles(qualities, confidence),
        resamples,
        confidence,
    )


@dataclass(frozen=True)
class Differences:
    """What a second evaluation has more than a first one on the same pictures, as parts of 1; NaN: nothing to judge.

    Args:
        groups, classes: intervals of the difference of PQ, SQ and RQ, as in :class:`Intervals`.
        better_groups, better_classes: (3,) and (K, 3), the part of the draws in which the second one has more.
        resamples, confidence: as in :class:`Intervals`.
    """

    groups: dict[str, np.ndarray]
    classes: np.ndarray
    better_groups: dict[str, np.ndarray]
    better_classes: np.ndarray
    resamples: int
    confidence: float


def paired_differences(
    first: PictureSums,
    second: PictureSums,
    groups: Mapping[str, Sequence[int]],
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Differences:
    """Paired bootstrap: each draw takes the same pictures of both, so that easy and hard ones cancel out.

    Source: Efron and Tibshirani 1993, chapters 8 and 13: the picture with both of its results is what is drawn.

    Args:
        first, second: of the same pictures, in the same order.
        groups, resamples, seed, confidence: as in :func:`bootstrap_intervals`.

    Raises:
        ValueError: they have another number of pictures or classes, or see :func:`bootstrap_intervals`.
    """
    if len(first) != len(second) or first.num_classes != second.num_classes:
        raise ValueError(
            f"{len(first)} and {len(second)} pictures, {first.num_classes} and {second.num_classes} classes; a paired "
            "comparison needs the same ones."
        )
    _check_draws(first, resamples, confidence)
    draws = zip(_resampled(first, resamples, seed), _resampled(second, resamples, seed), strict=True)
    parts = [(_qualities(one), _qualities(other)) for one, other in draws]
    before, after = (np.concatenate([pair[place] for pair in parts]) for place in range(2))
    more = {
        name: _mean_over_classes(after[:, list(labels)]) - _mean_over_classes(before[:, list(labels)])
        for name, labels in groups.items()
    }
    return Differences(
        {name: _percentiles(values, confidence) for name, values in more.items()},
        _percentiles(after - before, confidence),
        {name: _part_above_zero(values) for name, values in more.items()},
        _part_above_zero(after - before),
        resamples,
        confidence,
    )


def _check_draws(sums: PictureSums, resamples: int, confidence: float) -> None:
    if resamples < 1 or not 0 < confidence < 1 or not len(sums):
        raise ValueError(
            f"resamples={resamples}, confidence={confidence}, {len(sums)} pictures; allowed are 1 or more resamples, "
            "a confidence between 0 and 1, and 1 or more pictures."
        )


def _part_above_zero(values: np.ndarray) -> np.ndarray:
    """(...,) the part of the draws, (R, ...), that is above 0, of those that aren't NaN; ties count half."""
    known = np.isfinite(values).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return ((values > 0).sum(axis=0) + 0.5 * (values == 0).sum(axis=0)) / np.where(known, known, np.nan)


def _resampled(sums: PictureSums, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(R, 4, K) sums over the drawn pictures, some draws at a time."""
    pictures, matrix, generator = len(sums), sums.matrix(), np.random.default_rng(seed)
    at_once = max(1, _CHUNK_VALUES // pictures)
    for start in range(0, resamples, at_once):
        draws = min(at_once, resamples - start)
        drawn = generator.integers(pictures, size=(draws, pictures)) + pictures * np.arange(draws)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=draws * pictures).reshape(draws, pictures)
        yield (matrix.T @ counts.T.astype(np.float64)).T.reshape(draws, 4, sums.num_classes)


def _qualities(totals: np.ndarray) -> np.ndarray:
    """PQ, SQ, RQ (R, K, 3) of sums (R, 4, K); NaN where a class is absent."""
    iou, tp, fp, fn = (totals[:, kind] for kind in (_IOU, _TP, _FP, _FN))
    segments = tp + 0.5 * fp + 0.5 * fn
    with np.errstate(invalid="ignore", divide="ignore"):
        sq = np.where(tp > 0, iou / tp, np.where(segments > 0, 0.0, np.nan))
        return np.stack([iou / segments, sq, tp / segments], axis=-1)


def _mean_over_classes(qualities: np.ndarray) -> np.ndarray:
    """(R, 3): means of (R, K, 3) over the classes that are there; NaN where none is."""
    present = np.isfinite(qualities)
    with np.errstate(invalid="ignore"):
        return np.where(present, qualities, 0).sum(axis=1) / present.sum(axis=1)


def _percentiles(values: np.ndarray, confidence: float) -> np.ndarray:
    """(..., 2): lower and upper end over the draws, (R, ...), that aren't NaN; interpolated in between."""
    tail = (1 - confidence) / 2
    ordered = np.sort(values, axis=0)  # NaN comes last
    known = np.isfinite(values).sum(axis=0)
    ends = []
    for part in (tail, 1 - tail):
        place = np.maximum(known - 1, 0) * part
        below = np.floor(place).astype(np.int64)
        above = np.minimum(below + 1, np.maximum(known - 1, 0))
        low, high = (np.take_along_axis(ordered, at[None], axis=0)[0] for at in (below, above))
        ends.append(low + (high - low) * (place - below))
    return np.stack(ends, axis=-1)
