"""Videos of the yard: exact ground truth in each frame, and ids that stay."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from detr_d2.errors import ConfigError
from detr_d2.yard import CATEGORIES, yard_video
from detr_d2.yard.scene import Frame

SIZE = (96, 80)


@pytest.fixture(scope="module")
def video() -> list[Frame]:
    """A video in which every path has been gone at least once."""
    return list(yard_video(300, SIZE, seed=4))


def things(segments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The segments of things."""
    ids = {category["id"] for category in CATEGORIES if category["isthing"]}
    return [segment for segment in segments if segment["category_id"] in ids]


def test_segments_are_those_of_the_map(video: list[Frame]) -> None:
    for image, ids, segments in video[::10]:
        found, areas = np.unique(ids, return_counts=True)
        assert image.shape == (SIZE[1], SIZE[0], 3)
        assert image.dtype == np.uint8
        assert ids.dtype == np.int32
        assert {segment["id"]: segment["area"] for segment in segments} == dict(zip(found, areas))
        for segment in segments:
            rows, columns = np.nonzero(ids == segment["id"])
            left, top, width, height = segment["bbox"]
            assert (left, left + width) == (columns.min(), columns.max() + 1)
            assert (top, top + height) == (rows.min(), rows.max() + 1)


def test_an_id_has_one_category_and_stuff_is_there_once(video: list[Frame]) -> None:
    segments = [segment for _, _, shown in video for segment in shown]

    pairs = {(segment["id"], segment["category_id"]) for segment in segments}
    thing_ids = {segment["id"] for segment in things(segments)}
    stuff = [category for number, category in pairs if number not in thing_ids]
    assert len({number for number, _ in pairs}) == len(pairs)
    assert len(stuff) == len(set(stuff))
    assert 3 <= len(thing_ids) <= 6


@pytest.mark.parametrize("seed", range(4))
def test_something_leaves_and_comes_back(seed: int) -> None:
    presence: dict[int, list[int]] = {}
    for frame, (_, _, segments) in enumerate(yard_video(300, (64, 48), seed)):
        for segment in segments:
            presence.setdefault(segment["id"], []).append(frame)

    assert any(np.diff(frames).max() > 5 for frames in presence.values())


def test_things_move_far_in_small_steps_and_look_the_same(video: list[Frame]) -> None:
    overlaps, changes, columns = [], [], []
    for (image, ids, segments), (next_image, next_ids, _) in pairwise(video):
        for segment in things(segments):
            before, after = ids == segment["id"], next_ids == segment["id"]
            if after.any() and segment["area"] > 40:
                overlaps.append((before & after).sum() / (before | after).sum())
                changes.append(np.abs(image[before].mean(axis=0) - next_image[after].mean(axis=0)).max())
                columns.append((segment["id"], np.nonzero(before)[1].mean()))

    numbers = {number for number, _ in columns}
    travelled = [np.ptp([x for other, x in columns if other == number]) for number in numbers]
    assert np.quantile(overlaps, 0.05) > 0.4  # not all: some are nearly hidden by others
    assert np.quantile(changes, 0.9) < 10
    assert min(travelled) > 0.5 * SIZE[0]


def test_a_video_is_the_same_again_and_a_shorter_one_its_beginning(video: list[Frame]) -> None:
    for (image, ids, segments), (image2, ids2, segments2) in zip(yard_video(5, SIZE, seed=4), video):
        assert (image == image2).all()
        assert (ids == ids2).all()
        assert segments == segments2


def test_another_seed_gives_another_video(video: list[Frame]) -> None:
    image, _, _ = next(yard_video(1, SIZE, seed=5))

    assert (image != video[0][0]).mean() > 0.5


def test_size_is_refused_before_the_first_frame_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="size 10x10; allowed are 64x48"):
        yard_video(1, (10, 10))
