"""Video panoptic quality: equal to PQ frame by frame, and lower where ids don't stay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_d2.data.categories import Category
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.results import group_means
from detr_d2.evaluation.video_quality import video_quality
from detr_d2.yard import CATEGORIES, yard_video

Frame = tuple[np.ndarray, list[dict[str, Any]]]
FRAMES = 20
LONG = (5, 10, 15)
YARD = [
    Category(one["id"], one["name"], bool(one["isthing"]), (0, 0, 0))
    for one in sorted(CATEGORIES, key=lambda one: not one["isthing"])
]
THINGS = {category.id for category in YARD if category.is_thing}
TWO_THINGS = [Category(7, "crane", True, (0, 0, 0)), Category(3, "truck", True, (0, 0, 0))]


@pytest.fixture(scope="module")
def video() -> list[Frame]:
    return [(ids, segments) for _, ids, segments in yard_video(FRAMES, (64, 48), seed=4)]


def renumbered(frame: Frame, ids: dict[int, int]) -> Frame:
    """A frame whose segments have other ids."""
    pixels, segments = frame
    table = np.arange(int(pixels.max()) + 1)
    table[list(ids)] = list(ids.values())
    return table[pixels], [{**one, "id": ids.get(one["id"], one["id"])} for one in segments]


def shifted(frame: Frame) -> Frame:
    """A prediction that is a bit off."""
    pixels = np.roll(frame[0], (1, 3), (0, 1))
    return pixels, frame[1]


def two_things(left: int, right: int) -> Frame:
    """Two things of one class beside each other, with void above."""
    pixels = np.repeat([[left, left, right, right]], 4, axis=0)
    pixels[0] = 0
    return pixels, [{"id": left, "category_id": 7}, {"id": right, "category_id": 7}]


def test_perfect_prediction_has_full_quality(video: list[Frame]) -> None:
    quality = video_quality(video, video, YARD)

    assert quality.frames == FRAMES and quality.id_switches == 0 and quality.thing_matches > FRAMES
    assert list(quality.vpq) == [1, 5, 10, 15]
    assert all(mean.pq == 1 for means in quality.vpq.values() for mean in means.values())
    assert quality.mean() == quality.mean("Things") == 1


def test_window_of_one_frame_equals_panoptic_quality(video: list[Frame]) -> None:
    labels = {category.id: label for label, category in enumerate(YARD)}
    expected = PanopticQuality(len(YARD))
    for frame in video:
        parts = [
            (pixels, [{**one, "category_id": labels[one["category_id"]]} for one in segments])
            for pixels, segments in (frame, shifted(frame))
        ]
        expected.update(*parts[0], *parts[1])

    quality = video_quality(video, map(shifted, video), YARD)

    assert quality.vpq[1] == group_means(expected, [category.is_thing for category in YARD])
    assert quality.vpq[1]["All"].pq < 1


maps = st.lists(st.integers(0, 4), min_size=9, max_size=9).map(lambda cells: np.array(cells).reshape(3, 3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(maps, maps), min_size=1, max_size=3),
    st.lists(st.integers(0, 1), min_size=5, max_size=5),
    st.lists(st.integers(0, 1), min_size=5, max_size=5),
    st.frozensets(st.integers(1, 4), max_size=2),
)
def test_window_equals_panoptic_quality_of_frames_side_by_side(
    frames: list[tuple[np.ndarray, np.ndarray]], true: list[int], predicted: list[int], crowds: frozenset[int]
) -> None:
    def segments(ids: np.ndarray, classes: list[int]) -> list[dict[str, Any]]:
        return [{"id": i, "category_id": classes[i]} for i in np.unique(ids).tolist() if i]

    def true_segments(ids: np.ndarray) -> list[dict[str, Any]]:
        return [{**one, "iscrowd": int(one["id"] in crowds)} for one in segments(ids, true)]

    categories = [Category(label, str(label), True, (0, 0, 0)) for label in (0, 1)]
    whole = [np.concatenate(part, axis=1) for part in zip(*frames)]
    expected = PanopticQuality(2)
    expected.update(whole[0], true_segments(whole[0]), whole[1], segments(whole[1], predicted))

    quality = video_quality(
        ((ids, true_segments(ids)) for ids, _ in frames),
        ((ids, segments(ids, predicted)) for _, ids in frames),
        categories,
        windows=(len(frames),),
    )

    np.testing.assert_equal(quality.vpq[len(frames)], group_means(expected, [True, True]))


def test_swapped_ids_lower_longer_windows_only() -> None:
    gt = [two_things(1, 2)] * FRAMES
    swapped = [two_things(1, 2)] * 10 + [two_things(2, 1)] * 10

    quality = video_quality(gt, swapped, TWO_THINGS)

    assert quality.vpq[1]["Things"].pq == 1
    assert 1 > quality.vpq[5]["Things"].pq > quality.vpq[10]["Things"].pq > quality.vpq[15]["Things"].pq
    assert quality.id_switches == 2


def test_id_of_stuff_doesnt_matter(video: list[Frame]) -> None:
    flickering = [
        renumbered(
            frame,
            {
                one["id"]: 1000 + 50 * number + place
                for place, one in enumerate(frame[1])
                if one["category_id"] not in THINGS
            },
        )
        for number, frame in enumerate(video)
    ]

    quality = video_quality(video, flickering, YARD)

    assert quality.mean() == 1 and quality.id_switches == 0


def test_ids_of_each_frame_lower_longer_windows(video: list[Frame]) -> None:
    local = [
        renumbered(frame, {one["id"]: 1000 + 50 * number + place for place, one in enumerate(frame[1])})
        for number, frame in enumerate(video)
    ]

    quality = video_quality(video, local, YARD)

    assert quality.vpq[1]["All"].pq == 1
    assert all(quality.vpq[length]["Stuff"].pq == 1 and quality.vpq[length]["Things"].pq < 0.2 for length in LONG)
    shown = [{one["id"] for one in segments if one["category_id"] in THINGS} for _, segments in video]
    assert quality.id_switches == sum(map(len, shown)) - len(set.union(*shown))


def test_id_switch_is_seen_over_a_gap() -> None:
    nothing: Frame = (np.zeros((4, 4), int), [])
    gt = [two_things(1, 2)] * 4
    predicted = [two_things(5, 6), nothing, two_things(5, 9), two_things(5, 9)]

    quality = video_quality(gt, predicted, TWO_THINGS, windows=(1,))

    assert quality.id_switches == 1 and quality.thing_matches == 6


def test_id_that_changes_its_class_is_two_tubes() -> None:
    pixels = np.ones((2, 2), int)
    crane, truck = (pixels, [{"id": 1, "category_id": 7}]), (pixels, [{"id": 1, "category_id": 3}])

    quality = video_quality([crane, truck], [crane, truck], TWO_THINGS, windows=(2,))

    assert quality.vpq[2]["All"].pq == 1 and quality.vpq[2]["All"].n == 2


def test_video_shorter_than_a_window_is_one_window() -> None:
    gt, swapped = [two_things(1, 2)] * 4, [two_things(1, 2)] * 3 + [two_things(2, 1)]

    quality = video_quality(gt, swapped, TWO_THINGS, windows=(4, 15))

    assert quality.vpq[15] == quality.vpq[4]
    assert 0 < quality.vpq[15]["All"].pq < 1


def test_video_without_frames_has_no_quality() -> None:
    quality = video_quality([], [], TWO_THINGS)

    assert quality.frames == 0 and math.isnan(quality.mean())


def contradictions() -> Iterator[tuple[str, list[Frame], list[Frame]]]:
    frame = two_things(1, 2)
    yield "the ground truth has more than 1 frames", [frame] * 2, [frame]
    yield "the prediction has more than 1 frames", [frame], [frame] * 3
    yield "frame 1: the predicted map is 4 x 2", [frame] * 2, [frame, (frame[0][:, :2], frame[1])]
    yield "frame 0: a predicted panoptic map contradicts", [frame], [(frame[0], frame[1][:1])]
    yield "frame 0: only the ground truth's map or only its segments have ids [2]", [(frame[0], frame[1][:1])], [frame]
    yield "category ids [8] are unknown", [frame], [(frame[0], [{"id": 1, "category_id": 8}])]


@pytest.mark.parametrize(("message", "gt", "predicted"), list(contradictions()))
def test_videos_that_dont_fit_are_refused(message: str, gt: list[Frame], predicted: list[Frame]) -> None:
    with pytest.raises(ValueError) as error:
        video_quality(gt, predicted, TWO_THINGS)

    assert message in str(error.value)


def test_no_more_frames_are_kept_than_the_longest_window(video: list[Frame]) -> None:
    quality = PanopticQuality(2, keep_images=False)
    pixels, segments = np.ones((2, 2), int), [{"id": 1, "category_id": 0}]

    for _ in range(5):
        quality.update(pixels, segments, pixels, segments)

    assert quality.of_class(0).pq == 1 and quality.true_positives[0] == 5
    assert quality.matrix().shape[0] == 0
