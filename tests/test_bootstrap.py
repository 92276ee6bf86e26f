"""Bootstrap intervals against drawing the pictures one by one, and what they must be in simple cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detr_d2.evaluation import bootstrap
from detr_d2.evaluation.bootstrap import PictureSums, bootstrap_intervals
from detr_d2.evaluation.panoptic_quality import Matches, PanopticQuality

GROUPS = {"All": [0, 1, 2, 3], "Things": [0, 1], "Stuff": [2, 3]}


def random_matches(count: int, num_classes: int, seed: int = 0) -> list[Matches]:
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        found = [(int(rng.integers(num_classes)), float(rng.uniform(0.5, 1))) for _ in range(rng.integers(6))]
        wrong, missed = (tuple(rng.integers(num_classes, size=rng.integers(3)).tolist()) for _ in range(2))
        pictures.append(Matches(tuple(found), wrong, missed))
    return pictures


def sums_of(pictures: list[Matches], num_classes: int) -> PictureSums:
    sums = PictureSums(num_classes)
    for matches in pictures:
        sums.add(matches)
    return sums


def test_sums_of_all_pictures_are_those_of_the_quality() -> None:
    pictures, quality = random_matches(20, 4), PanopticQuality(4)
    for matches in pictures:
        quality.add(matches)

    iou, tp, fp, fn = sums_of(pictures, 4).matrix().sum(axis=0).reshape(4, 4)

    np.testing.assert_allclose(iou, quality.iou, rtol=1e-12)
    np.testing.assert_array_equal(tp, quality.true_positives)
    np.testing.assert_array_equal(fp, quality.false_positives)
    np.testing.assert_array_equal(fn, quality.false_negatives)


def test_intervals_equal_evaluating_each_draw_anew() -> None:
    pictures = random_matches(9, 4)
    draws = np.random.default_rng(3).integers(9, size=(200, 9))
    expected: dict[str, list[float]] = {name: [] for name in GROUPS}
    of_class = []
    for draw in draws:
        quality = PanopticQuality(4)
        for number in draw:
            quality.add(pictures[number])
        of_class.append([quality.of_class(label).rq for label in range(4)])
        for name, labels in GROUPS.items():
            expected[name].append(quality.average(labels).pq)

    intervals = bootstrap_intervals(sums_of(pictures, 4), GROUPS, resamples=200, seed=3)

    for name, values in expected.items():
        np.testing.assert_allclose(intervals.groups[name][0], np.nanpercentile(values, [2.5, 97.5]), rtol=1e-12)
    np.testing.assert_allclose(intervals.classes[:, 2], np.nanpercentile(of_class, [2.5, 97.5], axis=0).T, rtol=1e-12)


def test_intervals_do_not_depend_on_how_many_draws_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = sums_of(random_matches(15, 4), 4)
    whole = bootstrap_intervals(sums, GROUPS, resamples=50)

    monkeypatch.setattr(bootstrap, "_CHUNK_VALUES", 40)
    parts = bootstrap_intervals(sums, GROUPS, resamples=50)

    np.testing.assert_array_equal(whole.classes, parts.classes)
    assert (
        bootstrap_intervals(sums, GROUPS, resamples=50, seed=1).groups["All"].tolist() != whole.groups["All"].tolist()
    )


def test_equal_pictures_have_an_interval_without_width() -> None:
    sums = sums_of([Matches(((0, 0.75), (2, 1.0)), (0,), ())] * 7, 4)

    intervals = bootstrap_intervals(sums, GROUPS, resamples=30)

    np.testing.assert_allclose(intervals.groups["Things"][0], 0.5, rtol=1e-12)
    np.testing.assert_allclose(intervals.groups["All"][1], 0.875, rtol=1e-12)


def test_absent_class_has_no_interval() -> None:
    sums = sums_of([Matches(((0, 0.75),), (), ())] * 3, 4)

    intervals = bootstrap_intervals(sums, GROUPS, resamples=30)

    assert np.isnan(intervals.classes[1:]).all() and np.isnan(intervals.groups["Stuff"]).all()
    assert not np.isnan(intervals.groups["All"]).any()


def test_intervals_shrink_with_the_root_of_the_number_of_pictures() -> None:
    few, many = (
        bootstrap_intervals(sums_of(random_matches(count, 4), 4), GROUPS, resamples=400).groups["All"][0]
        for count in (50, 800)
    )

    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(4, rel=0.3)


def test_intervals_cover_the_true_quality() -> None:
    truth = PanopticQuality(4)
    for matches in random_matches(20_000, 4, seed=99):
        truth.add(matches)
    exact, covered = truth.average(GROUPS["All"]).pq, 0

    for seed in range(100):
        sums = sums_of(random_matches(60, 4, seed=seed), 4)
        low, high = bootstrap_intervals(sums, GROUPS, resamples=200, seed=seed).groups["All"][0]
        covered += low <= exact <= high

    assert 87 <= covered <= 100


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": math.nan}])
def test_draws_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="allowed are 1 or more resamples"):
        bootstrap_intervals(sums_of(random_matches(2, 4), 4), GROUPS, **wrong)


def test_no_picture_has_no_interval() -> None:
    with pytest.raises(ValueError, match="0 pictures"):
        bootstrap_intervals(PictureSums(4), GROUPS)
