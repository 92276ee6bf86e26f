"""Pixels that segments share, counted by runs, against counting pixels; and what contradicting maps are told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_d2.evaluation.faults import MAX_OF_A_KIND, MAX_OF_AN_IMAGE, MAX_SHOWN, FaultRow, faults_table, map_faults
from detr_d2.evaluation.overlaps import Overlaps, joint_histogram, segment_areas

TYPES = (np.uint8, np.int32, np.int64, np.uint32)


@st.composite
def two_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Maps of one size and of any integers, smooth or noisy; where the type allows it, of ids up to 2**31 - 1."""
    height, width, smooth = draw(st.integers(1, 7)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    maps = []
    for _ in range(2):
        kind = draw(st.sampled_from(TYPES))
        ids = np.array(draw(st.lists(st.integers(0, 2**31 - 1 if kind != np.uint8 else 255), min_size=4, max_size=4)))
        cells = draw(st.lists(st.integers(0, 3), min_size=height * width, max_size=height * width))
        maps.append(np.repeat(ids[np.reshape(cells, (height, width))], smooth, axis=1).astype(kind))
    return maps[0], maps[1]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(two_maps(), st.booleans())
def test_histogram_by_runs_equals_counting_pixels(maps: tuple[np.ndarray, np.ndarray], transposed: bool) -> None:
    true_map, predicted_map = (part.T if transposed else part for part in maps)
    pairs = true_map.astype(np.uint64) << np.uint64(32) | predicted_map.astype(np.uint64)
    expected, expected_pixels = np.unique(pairs, return_counts=True)

    true_ids, predicted_ids, pixels = joint_histogram(true_map, predicted_map)

    np.testing.assert_array_equal(
        true_ids.astype(np.uint64) << np.uint64(32) | predicted_ids.astype(np.uint64), expected
    )
    np.testing.assert_array_equal(pixels, expected_pixels)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(two_maps())
def test_areas_are_sums_of_overlaps(maps: tuple[np.ndarray, np.ndarray]) -> None:
    overlaps = Overlaps(*maps)

    assert overlaps.true_areas == segment_areas(maps[0]) and overlaps.predicted_areas == segment_areas(maps[1])
    assert sum(overlaps.pairs.values()) == maps[0].size


def test_histogram_of_empty_maps_is_empty() -> None:
    assert all(part.size == 0 for part in joint_histogram(np.zeros((0, 5), int), np.zeros((0, 5), int)))
    assert segment_areas(np.zeros((0, 5), int)) == {}


def test_negative_ids_are_refused() -> None:
    ids = np.arange(6).reshape(2, 3)

    with pytest.raises(ValueError, match="the predicted map has the id -1; ids are 0"):
        joint_histogram(ids, ids - 1)
    with pytest.raises(ValueError, match="the true map has the id -2"):
        joint_histogram(ids - 2, ids)


def test_map_and_list_that_agree_have_no_fault() -> None:
    assert map_faults("image", [3, 1], {0: 5, 1: 2, 3: 1}, (2, 4), (2, 4)) == []
    assert map_faults("image", [1], {1: 8}, (2, 4), None) == []


def test_every_contradiction_of_map_and_list_is_said() -> None:
    faults = map_faults("image", [0, 1, 1, 5], {0: 5, 1: 2, 3: 1}, (2, 4), (4, 2))

    assert [fault.fault for fault in faults] == [
        "is 4x2 pixels; the JSON says 2x4",
        "a segment has id=0",
        "2 segments have the id 1",
        "has 1 pixels of the id 3, which the JSON doesn't list",
        "has no pixel of the segment 5",
    ]
    assert {fault.where for fault in faults} == {"image"} and all(fault.fix for fault in faults)


def test_noise_gives_few_faults() -> None:
    faults = map_faults("image", [], dict.fromkeys(range(300_000), 1), (500, 600), None)

    assert len(faults) == MAX_OF_AN_IMAGE + 1
    assert faults[-1].fault == f"and so it has {299_999 - MAX_OF_AN_IMAGE:,} more ids"


def test_table_shows_some_faults_of_each_kind_and_counts_the_others() -> None:
    faults = [FaultRow(f"image id {i}", "no prediction", "predict it") for i in range(5000)]
    faults.append(FaultRow("image id 7", "is cut off", "export it again"))

    text = faults_table(faults)

    assert text.count("no prediction") == MAX_OF_A_KIND and text.count("is cut off") == 1
    assert f"... {5000 - MAX_OF_A_KIND:,} more faults; all 5,001" in text
    assert "5,000 x predict it" in text and "1 x export it again" in text
    many_kinds = [FaultRow("image", "fault", f"fix {i}") for i in range(1000)]
    assert len(faults_table(many_kinds).splitlines()) <= 2 * MAX_SHOWN + 4


def test_table_of_few_faults_is_only_a_table() -> None:
    assert faults_table([FaultRow("a", "b", "c")]).splitlines()[-1].split() == ["|", "a", "|", "b", "|", "c", "|"]
