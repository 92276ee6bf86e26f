"""Repeat factors: the published formula over panoptic segments, and a sequence that keeps to it."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from detr_d2.data.train_loader import RepeatFactorSampler, repeat_factors

from detectron2.utils import comm


def record(*classes: int, crowd: tuple[int, ...] = ()) -> dict[str, Any]:
    segments = [{"category_id": number, "iscrowd": 0} for number in classes]
    return {"segments_info": segments + [{"category_id": number, "iscrowd": 1} for number in crowd]}


def test_factors_are_those_of_the_rarest_class() -> None:
    records = [record(0, 1), record(0), record(0, 0), record(0, 2), record()] * 2 + [record(0)] * 6

    factors = repeat_factors(records, threshold=0.5)

    # 16 images: class 0 is in 14, class 1 and class 2 in 2 each.
    assert factors.tolist() == [2.0, 1.0, 1.0, 2.0, 1.0] * 2 + [1.0] * 6


def test_without_the_root_factors_are_the_ratio() -> None:
    records = [record(0), *[record(1)] * 9]

    assert repeat_factors(records, threshold=0.2, sqrt=False).tolist() == [2.0] + [1.0] * 9
    assert repeat_factors(records, threshold=0.2)[0] == pytest.approx(2**0.5)


def test_crowds_do_not_count() -> None:
    records = [record(1, crowd=(0,)), record(0), *[record(1)] * 8]

    assert repeat_factors(records, threshold=0.4).tolist() == [1.0, 2.0] + [1.0] * 8


def test_boxes_count_as_segments_do() -> None:
    records = [{"annotations": [{"category_id": 3}]}, *[{"annotations": [{"category_id": 1}]}] * 3]

    assert repeat_factors(records, threshold=1.0)[0] == 2.0


def test_factors_equal_those_of_detectron2() -> None:
    samplers = pytest.importorskip("detectron2.data.samplers")
    theirs = getattr(samplers, "RepeatFactorTrainingSampler", None)
    if theirs is None:
        pytest.skip("no Detectron2 is installed")
    rng = np.random.default_rng(0)
    records = [record(*rng.choice(12, size=rng.integers(5), p=np.arange(1, 13) / 78).tolist()) for _ in range(60)]
    boxes = [{"annotations": entry["segments_info"]} for entry in records]

    for sqrt in (True, False):
        expected = theirs.repeat_factors_from_category_frequency(boxes, 0.2, sqrt=sqrt).numpy()
        np.testing.assert_allclose(repeat_factors(records, 0.2, sqrt), expected, rtol=1e-6)


def test_images_come_as_often_as_their_factor_says() -> None:
    factors = np.array([1.0, 2.5, 1.25, 4.0])

    stream = list(islice(RepeatFactorSampler(factors, seed=0), 8750))

    counts = np.bincount(stream, minlength=4)
    np.testing.assert_allclose(counts / counts[0], factors, rtol=0.03)


def test_factors_of_one_are_each_image_once_an_epoch() -> None:
    stream = list(islice(RepeatFactorSampler(np.ones(20), seed=3), 60))

    assert all(sorted(stream[start : start + 20]) == list(range(20)) for start in (0, 20, 40))
    assert stream[:20] != stream[20:40]


def test_seed_decides_the_sequence() -> None:
    first, again, other = (list(islice(RepeatFactorSampler(np.ones(30), seed), 30)) for seed in (1, 1, 2))

    assert first == again != other


def test_processes_share_one_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = np.array([1.0, 1.5, 3.0, 1.0])
    whole = list(islice(RepeatFactorSampler(factors, seed=5), 30))
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)

    for rank in range(3):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        assert list(islice(RepeatFactorSampler(factors, seed=5), 10)) == whole[rank::3]
