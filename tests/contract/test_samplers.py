"""Which entries come next. Expected streams were recorded from Detectron2 0.6 with torch 2.15 on one process."""

from __future__ import annotations

from itertools import islice

import pytest

from detectron2.data.samplers import InferenceSampler, TrainingSampler
from detectron2.utils import comm


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, [4, 0, 1, 3, 2, 3, 4, 0, 1, 2, 2, 4]),
        (7, [0, 1, 3, 2, 4, 3, 4, 1, 2, 0, 3, 2]),
        (-1, [1, 3, 4, 2, 0, 0, 1, 3, 2, 4, 4, 1]),
    ],
)
def test_training_stream_of_a_seed_is_the_recorded_one(seed: int, expected: list[int]) -> None:
    sampler = TrainingSampler(5, seed=seed)

    assert list(islice(sampler, 12)) == expected
    assert list(islice(sampler, 12)) == expected  # each iteration starts anew


def test_training_stream_goes_through_all_entries_in_each_epoch() -> None:
    stream = list(islice(TrainingSampler(50, seed=3), 150))

    assert all(sorted(stream[start : start + 50]) == list(range(50)) for start in (0, 50, 100))


def test_training_sampler_wants_a_positive_number() -> None:
    with pytest.raises(ValueError, match="positive int"):
        TrainingSampler(0)


def test_inference_takes_each_entry_once() -> None:
    sampler = InferenceSampler(7)

    assert list(sampler) == list(range(7))
    assert len(sampler) == 7


@pytest.fixture(params=[(0, 3), (1, 3), (2, 3)])
def process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Pretends to be one of three processes."""
    rank, world_size = request.param
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)
    return rank


def test_processes_share_one_training_stream(process: int) -> None:
    whole = [4, 0, 1, 3, 2, 3, 4, 0, 1, 2, 2, 4]

    assert list(islice(TrainingSampler(5, seed=0), 4)) == whole[process::3]


def test_processes_divide_what_is_evaluated(process: int) -> None:
    assert list(InferenceSampler(7)) == [[0, 1, 2], [3, 4], [5, 6]][process]
