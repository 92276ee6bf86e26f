"""Kinds of mistakes, on scenes drawn by hand whose answers are known, and on random ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_d2.evaluation.matching import ComparedImage
from detr_d2.evaluation.overlaps import Overlaps
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.report.mistakes import KINDS, MistakeTally, find_mistakes

CLASSES = 3
Map = list[str]


def ids_of(rows: Map) -> np.ndarray:
    """A map whose ids are digits; a dot is void."""
    return np.array([[0 if mark == "." else int(mark) for mark in row] for row in rows])


def image_of(
    true_map: np.ndarray, true: dict[int, int], predicted_map: np.ndarray, predicted: dict[int, int]
) -> ComparedImage:
    """Ids of true segments from 100 on are crowds."""
    true_segments = [{"id": i, "category_id": c, "iscrowd": int(i >= 100)} for i, c in true.items()]
    predicted_segments = [{"id": i, "category_id": c} for i, c in predicted.items()]
    return ComparedImage(Overlaps(true_map, predicted_map), true_segments, predicted_segments)


def quality_of(
    true_map: np.ndarray, true: dict[int, int], predicted_map: np.ndarray, predicted: dict[int, int]
) -> PanopticQuality:
    quality = PanopticQuality(CLASSES)
    there = np.unique(predicted_map)
    true_segments = [{"id": i, "category_id": c, "iscrowd": int(i >= 100)} for i, c in true.items()]
    predicted_segments = [{"id": i, "category_id": c} for i, c in predicted.items() if i in there]
    quality.update(true_map, true_segments, predicted_map, predicted_segments)
    return quality


def look_at(true: Map, true_class: dict[int, int], predicted: Map, predicted_class: dict[int, int]) -> ComparedImage:
    return image_of(ids_of(true), true_class, ids_of(predicted), predicted_class)


def kinds(image: ComparedImage) -> Counter[str]:
    return Counter(mistake.kind for mistake in find_mistakes(image))


def tally_of(image: ComparedImage) -> MistakeTally:
    tally = MistakeTally(CLASSES)
    tally.add(find_mistakes(image), image)
    return tally


def fixed_counts(true: Map, true_class: dict[int, int], predicted: Map, predicted_class: dict[int, int], kind: str):
    """The counts after the fix, as (sum of IoU, TP, FP, FN) by class."""
    quality = quality_of(ids_of(true), true_class, ids_of(predicted), predicted_class)
    return counts_of(tally_of(look_at(true, true_class, predicted, predicted_class)).fixed(quality, kind))


def counts_of(quality: PanopticQuality) -> list[tuple[float, int, int, int]]:
    counts = zip(quality.iou, quality.true_positives, quality.false_positives, quality.false_negatives)
    return [(pytest.approx(float(iou)), int(tp), int(fp), int(fn)) for iou, tp, fp, fn in counts]


# Each scene: truth and its classes, prediction and its classes, the kinds but for loose borders, the prediction fixed.
WRONG_CLASS = (["1111", "2222"], {1: 0, 2: 1}, ["1111", "2222"], {1: 2, 2: 1}, {"wrong_class": 1})
SPLIT = (["111111", "222222"], {1: 0, 2: 1}, ["334455", "222222"], {3: 0, 4: 0, 5: 0, 2: 1}, {"split": 1})
MERGED = (["111222", "333333"], {1: 0, 2: 0, 3: 1}, ["444444", "333333"], {4: 0, 3: 1}, {"merged": 1})
SWALLOWED = (["111112", "333333"], {1: 0, 2: 0, 3: 1}, ["444444", "333333"], {4: 0, 3: 1}, {"merged": 1})
POORLY_CUT = (["111111", "222222"], {1: 0, 2: 1}, ["33....", "222222"], {3: 0, 2: 1}, {"poorly_cut": 1})
DUPLICATE = (["1111", "2222"], {1: 0, 2: 1}, ["3334", "2222"], {3: 0, 4: 0, 2: 1}, {"duplicate": 1})
ON_VOID = (["1111", "2..4"], {1: 0, 2: 1, 4: 1}, ["1111", "3333"], {1: 0, 3: 2}, {"on_void": 1, "missed": 2})
MADE_UP = (["1111", "1111"], {1: 0}, ["1111", "1122"], {1: 0, 2: 2}, {"made_up": 1})
MISSED = (["1111", "2222"], {1: 0, 2: 1}, ["1111", "...."], {1: 0}, {"missed": 1})
SCENES = {
    **{"wrong_class": WRONG_CLASS, "split": SPLIT, "merged": MERGED, "swallowed": SWALLOWED, "poorly_cut": POORLY_CUT},
    **{"duplicate": DUPLICATE, "on_void": ON_VOID, "made_up": MADE_UP, "missed": MISSED},
}


@pytest.mark.parametrize("name", SCENES)
def test_scene_has_the_mistake_that_was_drawn(name: str) -> None:
    *scene, expected = SCENES[name]

    found = kinds(look_at(*scene))

    assert {kind: n for kind, n in found.items() if kind != "loose_borders"} == expected


@pytest.mark.parametrize(
    ("name", "kind", "repaired", "repaired_class"),
    [
        ("wrong_class", "wrong_class", ["1111", "2222"], {1: 0, 2: 1}),
        ("split", "split", ["333333", "222222"], {3: 0, 2: 1}),
        ("merged", "merged", ["444555", "333333"], {4: 0, 5: 0, 3: 1}),
        ("swallowed", "merged", ["444445", "333333"], {4: 0, 5: 0, 3: 1}),
        ("duplicate", "duplicate", ["333.", "2222"], {3: 0, 2: 1}),
        ("made_up", "made_up", ["1111", "11.."], {1: 0}),
        ("missed", "missed", ["1111", "2222"], {1: 0, 2: 1}),
    ],
)
def test_fix_counts_what_the_repaired_map_counts(
    name: str, kind: str, repaired: Map, repaired_class: dict[int, int]
) -> None:
    true, true_class, predicted, predicted_class, _ = SCENES[name]

    fixed = fixed_counts(true, true_class, predicted, predicted_class, kind)

    assert fixed == counts_of(quality_of(ids_of(true), true_class, ids_of(repaired), repaired_class))


def test_poorly_cut_segment_is_fixed_to_its_class_usual_iou() -> None:
    # Class 0: one match of 3 of 4 pixels, and one segment of which a third was found.
    true, predicted = ["1111....", "222222.."], ["333.....", "44......"]

    counts = fixed_counts(true, {1: 0, 2: 0}, predicted, {3: 0, 4: 0}, "poorly_cut")

    assert counts[0] == (0.75 + 0.75, 2, 0, 0)


def test_loose_borders_are_fixed_to_an_iou_of_one() -> None:
    counts = fixed_counts(["1111"], {1: 0}, ["333."], {3: 0}, "loose_borders")

    assert counts[0] == (1.0, 1, 0, 0)


def test_segment_with_its_largest_part_on_void_is_on_void() -> None:
    labelled = look_at(["111.2224444"], {1: 0, 2: 0, 4: 1}, [".333333333."], {3: 2})
    bare = look_at(["11...244"], {1: 0, 2: 0, 4: 1}, [".333333."], {3: 2})

    assert kinds(labelled)["on_void"] == 0 and kinds(labelled)["made_up"] == 1
    assert kinds(bare)["on_void"] == 1 and bare.matching.ignored == ()


def test_segment_that_is_mostly_void_is_ignored() -> None:
    image = look_at(["11...."], {1: 0}, ["113333"], {1: 0, 3: 2})

    assert image.matching.ignored == (3,) and kinds(image) == {"loose_borders": 1}


def test_ignored_segment_of_another_class_costs_the_missed_one_only() -> None:
    # Two thirds of the predicted segment are void, the rest is the whole of a true one.
    image = look_at(["11...."], {1: 0}, ["333333"], {3: 2})

    assert tally_of(image).confusions == {(0, 2): 1}
    assert find_mistakes(image)[0].changes[1].false_positives == 0


def test_crowds_are_never_missed_and_swallow_their_class() -> None:
    true = np.array([[100, 100, 100, 1]])

    image = image_of(true, {100: 0, 1: 1}, np.array([[3, 3, 3, 1]]), {3: 0, 1: 1})

    assert image.matching.ignored == (3,) and kinds(image) == {"loose_borders": 1}


def test_second_fragment_of_a_poorly_cut_object_is_a_duplicate() -> None:
    true, predicted = ["1111111111"], ["33.......4"]

    assert kinds(look_at(true, {1: 0}, predicted, {3: 0, 4: 0})) == {"poorly_cut": 1, "duplicate": 1}


@settings(max_examples=150, deadline=None)
@given(data=st.data(), size=st.integers(2, 6))
def test_every_wrong_and_every_missed_segment_has_exactly_one_mistake(data: st.DataObject, size: int) -> None:
    numbers = st.lists(st.integers(0, 5), min_size=size * size, max_size=size * size)
    true_map, predicted_map = (np.repeat(np.array(data.draw(numbers)), 3).reshape(size, -1) for _ in range(2))
    labels = st.integers(0, CLASSES - 1)
    true = {int(i) if i < 5 else 105: data.draw(labels) for i in np.unique(true_map) if i}
    true_map = np.where(true_map == 5, 105, true_map)  # a crowd
    predicted = {int(i): data.draw(labels) for i in np.unique(predicted_map) if i}
    image = image_of(true_map, true, predicted_map, predicted)

    real = [mistake for mistake in find_mistakes(image) if mistake.kind != "loose_borders"]

    wrong = Counter(i for m in real for i in m.predicted_ids if i not in image.matching.ignored)
    lost = Counter(i for m in real for i in m.true_ids)
    assert wrong == Counter(image.matching.wrong)
    assert lost == Counter(image.matching.missed)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), size=st.integers(2, 6))
def test_all_fixes_together_leave_nothing_wrong_and_each_one_costs_nothing(data: st.DataObject, size: int) -> None:
    numbers = st.lists(st.integers(0, 4), min_size=size * size, max_size=size * size)
    true_map, predicted_map = (np.array(data.draw(numbers)).reshape(size, size) for _ in range(2))
    labels = st.integers(0, CLASSES - 1)
    true, predicted = ({int(i): data.draw(labels) for i in np.unique(m) if i} for m in (true_map, predicted_map))
    tally = tally_of(image_of(true_map, true, predicted_map, predicted))
    quality = quality_of(true_map, true, predicted_map, predicted)

    gains = {kind: tally.gain(quality, kind, [True, True, False]) for kind in KINDS}
    together = quality
    for kind in KINDS:
        together = together.changed(tally.fixed(quality, kind).totals - quality.totals)

    assert not together.false_positives.any() and not together.false_negatives.any()
    assert together.true_positives.sum() == len(true)
    assert all(gain.groups["All"] >= -1e-9 or np.isnan(gain.groups["All"]) for gain in gains.values())
