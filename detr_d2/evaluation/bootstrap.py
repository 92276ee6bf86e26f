"""How far panoptic quality would move with other images of the same kind: bootstrap intervals.

Images are drawn with replacement, as many as there are, many times; the quality of each draw comes from the
images' own counts, so that no image is looked at again.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3 (percentile intervals).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detr_d2.evaluation.panoptic_quality import PanopticQuality, class_qualities

#: Draws (rows of images' counts) that are in memory at once.
_CHUNK_VALUES = 2**22


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
    quality: PanopticQuality,
    groups: Mapping[str, Sequence[int]],
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Intervals:
    """Percentile intervals of PQ, SQ and RQ over images, for each class and for means over classes.

    In each draw a class that none of its images has is left out of the means, as in the quality itself.

    Args:
        quality: of the images that were evaluated.
        groups: name to the classes whose mean it is.
        resamples: draws.
        seed: another seed, other draws.
        confidence: between 0 and 1.

    Raises:
        ValueError: ``resamples`` or ``confidence`` is out of range, or there is no image.
    """
    _check_draws(quality, resamples, confidence)
    qualities = np.concatenate([class_qualities(totals) for totals in _resampled(quality, resamples, seed)])
    means = {name: _mean_over_classes(qualities[:, list(labels)]) for name, labels in groups.items()}
    return Intervals(
        {name: _percentiles(mean, confidence) for name, mean in means.items()},
        _percentiles(qualities, confidence),
        resamples,
        confidence,
    )


@dataclass(frozen=True)
class Differences:
    """What a second evaluation has more than a first one on the same images, as parts of 1; NaN: nothing to judge.

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
    first: PanopticQuality,
    second: PanopticQuality,
    groups: Mapping[str, Sequence[int]],
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Differences:
    """Paired bootstrap: each draw takes the same images of both, so that easy and hard ones cancel out.

    Source: Efron and Tibshirani 1993, chapters 8 and 13: the image with both of its results is what is drawn.

    Args:
        first, second: of the same images, in the same order.
        groups, resamples, seed, confidence: as in :func:`bootstrap_intervals`.

    Raises:
        ValueError: they have another number of images or classes, or see :func:`bootstrap_intervals`.
    """
    if len(first) != len(second) or first.num_classes != second.num_classes:
        raise ValueError(
            f"{len(first)} and {len(second)} images, {first.num_classes} and {second.num_classes} classes; a paired "
            "comparison needs the same ones."
        )
    _check_draws(first, resamples, confidence)
    draws = zip(_resampled(first, resamples, seed), _resampled(second, resamples, seed), strict=True)
    parts = [(class_qualities(one), class_qualities(other)) for one, other in draws]
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


def _check_draws(quality: PanopticQuality, resamples: int, confidence: float) -> None:
    if resamples < 1 or not 0 < confidence < 1 or not len(quality):
        raise ValueError(
            f"resamples={resamples}, confidence={confidence}, {len(quality)} images; allowed are 1 or more resamples, "
            "a confidence between 0 and 1, and 1 or more images."
        )


def _part_above_zero(values: np.ndarray) -> np.ndarray:
    """(...,) the part of the draws, (R, ...), that is above 0, of those that aren't NaN; ties count half."""
    known = np.isfinite(values).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return ((values > 0).sum(axis=0) + 0.5 * (values == 0).sum(axis=0)) / np.where(known, known, np.nan)


def _resampled(quality: PanopticQuality, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(R, 4, K) sums over the drawn images, some draws at a time."""
    images, matrix, generator = len(quality), quality.matrix(), np.random.default_rng(seed)
    at_once = max(1, _CHUNK_VALUES // images)
    for start in range(0, resamples, at_once):
        draws = min(at_once, resamples - start)
        drawn = generator.integers(images, size=(draws, images)) + images * np.arange(draws)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=draws * images).reshape(draws, images)
        yield (matrix.T @ counts.T.astype(np.float64)).T.reshape(draws, 4, quality.num_classes)


def _mean_over_classes(qualities: np.ndarray) -> np.ndarray:
    """(R, 3): means of (R, K, 3) over the classes that are there; NaN where none is."""
    present = np.isfinite(qualities)
    with np.errstate(invalid="ignore"):
        return np.where(present, qualities, 0).sum(axis=1) / present.sum(axis=1)


def _percentiles(values: np.ndarray, confidence: float) -> np.ndarray:
    """(..., 2): lower and upper end over the draws, (R, ...), that aren't NaN; interpolated in between."""
    tail = (1 - confidence) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of classes that no draw has
        return np.stack(np.nanquantile(values, [tail, 1 - tail], axis=0), axis=-1)
