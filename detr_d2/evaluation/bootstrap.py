"""How far panoptic quality would move with other images of the same kind: bootstrap intervals.

Images are drawn with replacement, as many as there are, many times; the quality of each draw comes from the
images' own counts, so that no image is looked at again.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3 (percentile intervals), and
chapters 8 and 13 for pairs: the image with both of its results is what is drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from detr_d2.evaluation.panoptic_quality import PanopticQuality, class_qualities

#: Values of draws (rows of images' counts) that are in memory at once.
_CHUNK_VALUES = 2**20


class Intervals(NamedTuple):
    """Lower and upper ends of PQ, SQ and RQ, or of what they rose by, as parts of 1; NaN: nothing to judge.

    Args:
        groups, classes: (3, 2) by name, and (K, 3, 2): PQ, SQ, RQ by lower and upper end.
        above_groups, above_classes: (3,) by name, and (K, 3), the part of the draws that is above 0.
        resamples: draws that they come from.
        confidence: the part of the draws between the two ends.
    """

    groups: dict[str, np.ndarray]
    classes: np.ndarray
    above_groups: dict[str, np.ndarray]
    above_classes: np.ndarray
    resamples: int
    confidence: float


def bootstrap_intervals(
    quality: PanopticQuality,
    groups: Mapping[str, Sequence[int]],
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    before: PanopticQuality | None = None,
) -> Intervals:
    """Percentile intervals of PQ, SQ and RQ over images, for each class and for means over classes.

    In each draw a class that none of its images has is left out of the means, as in the quality itself.

    Args:
        quality: of the images that were evaluated.
        groups: name to the classes whose mean it is.
        resamples: draws.
        seed: another seed, other draws.
        confidence: between 0 and 1.
        before: of the same images in the same order; intervals are of what ``quality`` has more than it then. Each
            draw takes the same images of both, so that easy and hard ones cancel out.

    Raises:
        ValueError: ``resamples`` or ``confidence`` is out of range, there is no image, or ``before`` has others.
    """
    if resamples < 1 or not 0 < confidence < 1 or not len(quality):
        raise ValueError(
            f"resamples={resamples}, confidence={confidence}, {len(quality)} images; allowed are 1 or more resamples, "
            "a confidence between 0 and 1, and 1 or more images."
        )
    classes = _resampled(quality, resamples, seed)
    means = {name: _mean_over_classes(classes[:, list(labels)]) for name, labels in groups.items()}
    if before is not None:
        if len(before) != len(quality) or before.num_classes != quality.num_classes:
            raise ValueError(
                f"{len(before)} and {len(quality)} images, {before.num_classes} and {quality.num_classes} classes; a "
                "paired comparison needs the same ones."
            )
        others = _resampled(before, resamples, seed)
        means = {name: means[name] - _mean_over_classes(others[:, list(labels)]) for name, labels in groups.items()}
        classes = classes - others
    return Intervals(
        {name: _percentiles(mean, confidence) for name, mean in means.items()},
        _percentiles(classes, confidence),
        {name: _part_above_zero(mean) for name, mean in means.items()},
        _part_above_zero(classes),
        resamples,
        confidence,
    )


def _part_above_zero(values: np.ndarray) -> np.ndarray:
    """(...,) the part of the draws, (R, ...), that is above 0, of those that aren't NaN; ties count half."""
    known = np.isfinite(values).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return ((values > 0).sum(axis=0) + 0.5 * (values == 0).sum(axis=0)) / np.where(known, known, np.nan)


def _resampled(quality: PanopticQuality, resamples: int, seed: int) -> np.ndarray:
    """(R, K, 3) PQ, SQ and RQ of the drawn images."""
    images, matrix, generator = len(quality), quality.matrix(), np.random.default_rng(seed)
    at_once = max(1, _CHUNK_VALUES // images)
    found = []
    for start in range(0, resamples, at_once):
        draws = min(at_once, resamples - start)
        drawn = generator.integers(images, size=(draws, images)) + images * np.arange(draws)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=draws * images).reshape(draws, images)
        totals = (matrix.T @ counts.T.astype(np.float64)).T.reshape(draws, 4, quality.num_classes)
        found.append(class_qualities(totals))
    return np.concatenate(found)


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
