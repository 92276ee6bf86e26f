"""Bootstrap intervals against drawing the images one by one, and what they must be in simple cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detr_d2.evaluation import bootstrap
from detr_d2.evaluation.bootstrap import bootstrap_intervals
from detr_d2.evaluation.matching import Count
from detr_d2.evaluation.panoptic_quality import PanopticQuality

GROUPS = {"All": [0, 1, 2, 3], "Things": [0, 1], "Stuff": [2, 3]}


Image = list[Count]


def image_of(found: list[tuple[int, float]], wrong: tuple[int, ...] = (), missed: tuple[int, ...] = ()) -> Image:
    """Counts of matches, each with class and IoU, and of the classes of wrong and missed segments."""
    counts = [Count(label, iou, true_positives=1) for label, iou in found]
    counts += [Count(label, false_positives=1) for label in wrong]
    return counts + [Count(label, false_negatives=1) for label in missed]


def random_images(count: int, num_classes: int, seed: int = 0) -> list[Image]:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        found = [(int(rng.integers(num_classes)), float(rng.uniform(0.5, 1))) for _ in range(rng.integers(6))]
        wrong, missed = (tuple(rng.integers(num_classes, size=rng.integers(3)).tolist()) for _ in range(2))
        images.append(image_of(found, wrong, missed))
    return images


def quality_of(images: list[Image], num_classes: int) -> PanopticQuality:
    quality = PanopticQuality(num_classes)
    for counts in images:
        quality.add(counts)
    return quality


def test_rows_of_all_images_add_up_to_the_totals() -> None:
    quality = quality_of(random_images(20, 4), 4)

    totals = quality.matrix().sum(axis=0).reshape(4, 4)

    np.testing.assert_allclose(totals[0], quality.iou, rtol=1e-12)
    np.testing.assert_array_equal(totals[1:], quality.totals[1:])


def test_each_image_has_its_own_row_and_classes() -> None:
    quality = quality_of([image_of([(1, 0.75), (1, 0.5)], wrong=(3,)), [], image_of([(1, 1.0)], missed=(0,))], 4)

    rows = quality.matrix().toarray().reshape(3, 4, 4)

    assert rows[0].tolist() == [[0, 1.25, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert not rows[1].any() and rows[2].tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert quality.images_of_classes().tolist() == [1, 2, 0, 1]


def test_parts_of_a_dataset_merge() -> None:
    images = random_images(9, 4)
    whole, parts = quality_of(images, 4), quality_of(images[:5], 4)

    parts.merge(quality_of(images[5:], 4))

    np.testing.assert_allclose(parts.totals, whole.totals, rtol=1e-12)
    np.testing.assert_array_equal(parts.matrix().toarray(), whole.matrix().toarray())


def test_intervals_equal_evaluating_each_draw_anew() -> None:
    images = random_images(9, 4)
    draws = np.random.default_rng(3).integers(9, size=(200, 9))
    expected: dict[str, list[float]] = {name: [] for name in GROUPS}
    of_class = []
    for draw in draws:
        quality = PanopticQuality(4)
        for number in draw:
            quality.add(images[number])
        of_class.append([quality.of_class(label).rq for label in range(4)])
        for name, labels in GROUPS.items():
            expected[name].append(quality.average(labels).pq)

    intervals = bootstrap_intervals(quality_of(images, 4), GROUPS, resamples=200, seed=3)

    for name, values in expected.items():
        np.testing.assert_allclose(intervals.groups[name][0], np.nanpercentile(values, [2.5, 97.5]), rtol=1e-12)
    np.testing.assert_allclose(intervals.classes[:, 2], np.nanpercentile(of_class, [2.5, 97.5], axis=0).T, rtol=1e-12)


def test_intervals_do_not_depend_on_how_many_draws_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    quality = quality_of(random_images(15, 4), 4)
    whole = bootstrap_intervals(quality, GROUPS, resamples=50)

    monkeypatch.setattr(bootstrap, "_CHUNK_VALUES", 40)
    parts = bootstrap_intervals(quality, GROUPS, resamples=50)

    np.testing.assert_array_equal(whole.classes, parts.classes)
    assert (
        bootstrap_intervals(quality, GROUPS, resamples=50, seed=1).groups["All"].tolist()
        != whole.groups["All"].tolist()
    )


def test_equal_images_have_an_interval_without_width() -> None:
    quality = quality_of([image_of([(0, 0.75), (2, 1.0)], wrong=(0,))] * 7, 4)

    intervals = bootstrap_intervals(quality, GROUPS, resamples=30)

    np.testing.assert_allclose(intervals.groups["Things"][0], 0.5, rtol=1e-12)
    np.testing.assert_allclose(intervals.groups["All"][1], 0.875, rtol=1e-12)


def test_absent_class_has_no_interval() -> None:
    quality = quality_of([image_of([(0, 0.75)])] * 3, 4)

    intervals = bootstrap_intervals(quality, GROUPS, resamples=30)

    assert np.isnan(intervals.classes[1:]).all() and np.isnan(intervals.groups["Stuff"]).all()
    assert not np.isnan(intervals.groups["All"]).any()


def test_intervals_shrink_with_the_root_of_the_number_of_images() -> None:
    few, many = (
        bootstrap_intervals(quality_of(random_images(count, 4), 4), GROUPS, resamples=400).groups["All"][0]
        for count in (50, 800)
    )

    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(4, rel=0.3)


def test_intervals_cover_the_true_quality() -> None:
    gt = PanopticQuality(4)
    for counts in random_images(20_000, 4, seed=99):
        gt.add(counts)
    exact, covered = gt.average(GROUPS["All"]).pq, 0

    for seed in range(100):
        quality = quality_of(random_images(60, 4, seed=seed), 4)
        low, high = bootstrap_intervals(quality, GROUPS, resamples=200, seed=seed).groups["All"][0]
        covered += low <= exact <= high

    assert 87 <= covered <= 100


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": math.nan}])
def test_draws_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="allowed are 1 or more resamples"):
        bootstrap_intervals(quality_of(random_images(2, 4), 4), GROUPS, **wrong)


def test_no_image_has_no_interval() -> None:
    with pytest.raises(ValueError, match="0 images"):
        bootstrap_intervals(PanopticQuality(4), GROUPS)
