"""Ids that stay with an object: through permuted ids, movement and absence."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from detr_d2.prediction.tiling import Segmented
from detr_d2.prediction.tracking import track
from detr_d2.yard import CATEGORIES, yard_video

STUFF, THING, OTHER_THING = 1, 2, 3


def frame(*boxes: tuple[int, int, int, int, int], size: tuple[int, int] = (60, 100)) -> Segmented:
    """Boxes (category, top, left, bottom, right), numbered in their order, on void."""
    ids = np.zeros(size, np.int32)
    segments = []
    for number, (category, top, left, bottom, right) in enumerate(boxes, 1):
        ids[top:bottom, left:right] = number
        segments.append({"id": number, "category_id": category, "isthing": category != STUFF, "score": 0.9})
    return ids, segments


def ids_of(frames: list[Segmented]) -> list[list[int]]:
    return [[segment["id"] for segment in segments] for _, segments in track(frames)]


@pytest.fixture(scope="module")
def yard() -> list[tuple[np.ndarray, list[dict[str, Any]]]]:
    """Ground truth of a video."""
    is_thing = {category["id"]: bool(category["isthing"]) for category in CATEGORIES}
    return [
        (ids, [{**segment, "isthing": is_thing[segment["category_id"]]} for segment in segments])
        for _, ids, segments in yard_video(60, (96, 80), seed=1)
    ]


def permuted(frames: list[Segmented]) -> Iterator[Segmented]:
    """Ids and order of each frame have nothing to do with those of the next, as a model's."""
    rng = np.random.default_rng(0)
    for ids, segments in frames:
        table = np.zeros(ids.max() + 1, np.int32)
        table[[segment["id"] for segment in segments]] = rng.permutation(len(segments)) + 1
        shuffled = [
            {**segments[place], "id": int(table[segments[place]["id"]])} for place in rng.permutation(len(segments))
        ]
        yield table[ids], shuffled


def test_permuted_ids_become_constant(yard: list[Segmented]) -> None:
    found: dict[int, set[int]] = {}
    for (ids, _), (true_ids, true_segments) in zip(track(permuted(yard)), yard):
        for segment in true_segments:
            own = np.unique(ids[true_ids == segment["id"]]).tolist()
            found.setdefault(segment["id"], set()).update(own)

    assert [len(ids) for ids in found.values()] == [1] * len(found)
    assert len(set.union(*found.values())) == len(found)


def test_maps_and_segments_keep_all_but_their_ids(yard: list[Segmented]) -> None:
    for (ids, segments), (old_ids, old_segments) in zip(track(yard), yard):
        assert ids.dtype == np.int32
        pairs = {(int(new), int(old)) for new, old in zip(ids.ravel(), old_ids.ravel())}
        assert pairs == {(new["id"], old["id"]) for new, old in zip(segments, old_segments)}
        assert [{**new, "id": 0} for new in segments] == [{**old, "id": 0} for old in old_segments]


@pytest.mark.parametrize(("gone", "is_known"), [(1, True), (3, True), (4, False)])
def test_an_object_is_remembered_for_as_many_frames(gone: int, is_known: bool) -> None:
    seen = frame((THING, 10, 10, 40, 40))

    found = list(track([seen, *[frame()] * gone, seen], memory=3))

    assert (found[-1][1][0]["id"] == found[0][1][0]["id"]) is is_known


def test_an_object_that_moves_on_while_hidden_keeps_its_id() -> None:
    moving = [frame((THING, 10, 8 * step, 30, 8 * step + 20)) for step in range(10)]
    moving[3:7] = [frame()] * 4

    found = ids_of(moving)

    assert found == [[1]] * 3 + [[]] * 4 + [[1]] * 3


def test_things_that_pass_each_other_aren_t_exchanged() -> None:
    frames = [
        frame((THING, 0, 5 * step, 20, 5 * step + 20), (THING, 20, 75 - 5 * step, 40, 95 - 5 * step))
        for step in range(16)
    ]

    assert ids_of(frames) == [[1, 2]] * 16


def test_a_place_taken_by_another_class_is_another_object() -> None:
    one, other = frame((THING, 10, 10, 40, 40)), frame((OTHER_THING, 10, 10, 40, 40))

    assert ids_of([one, other, one]) == [[1], [2], [1]]


def test_a_thing_far_away_is_another_object() -> None:
    assert ids_of([frame((THING, 0, 0, 20, 20)), frame((THING, 0, 60, 20, 80))]) == [[1], [2]]


def test_assignment_is_best_for_all_together() -> None:
    before = frame((THING, 0, 0, 20, 20), (THING, 0, 20, 20, 40))
    after = frame((THING, 0, 8, 20, 28), (THING, 0, 28, 20, 48))  # the first overlaps both

    assert ids_of([before, after]) == [[1, 2], [1, 2]]


def test_stuff_keeps_its_id_wherever_it_is() -> None:
    left, right = frame((STUFF, 0, 0, 60, 30)), frame((STUFF, 0, 70, 60, 100))

    assert ids_of([left, right, *[frame()] * 50, left]) == [[1], [1], *[[]] * 50, [1]]


def test_frames_are_taken_one_by_one_and_not_kept() -> None:
    taken = []

    def frames() -> Iterator[Segmented]:
        for step in range(5):
            ids, segments = frame((THING, step, 0, step + 20, 20))
            taken.append(weakref.ref(ids))
            yield ids, segments
            del ids

    tracked = track(frames(), memory=3)
    next(tracked)
    assert len(taken) == 1
    for _ in range(3):
        next(tracked)
    gc.collect()

    assert [reference() is None for reference in taken[:-1]] == [True] * 3


def test_a_frame_without_anything_is_no_trouble() -> None:
    assert ids_of([frame(), frame(), frame((THING, 0, 0, 1, 1), size=(1, 1))]) == [[], [], [1]]
