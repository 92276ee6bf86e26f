"""The split of pictures into training and validation."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_d2.prepare.split import split_images


def sides(classes: list[tuple[int, ...]], is_val: np.ndarray, number: int) -> set[bool]:
    return {bool(side) for numbers, side in zip(classes, is_val) if number in numbers}


def torn_classes(classes: list[tuple[int, ...]], is_val: np.ndarray, count: int) -> int:
    shown = [sum(number in numbers for numbers in classes) for number in range(count)]
    return sum(len(sides(classes, is_val, number)) == 1 for number in range(count) if shown[number] >= 2)


@settings(deadline=None, max_examples=60)
@given(
    classes=st.lists(st.integers(0, 5).map(lambda number: (number,)), min_size=2, max_size=60),
    val=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
)
def test_a_class_of_two_images_is_on_both_sides(classes: list[tuple[int, ...]], val: float, seed: int) -> None:
    split = split_images(classes, range(len(classes)), val, seed, 6)

    assert split.torn == ()
    assert torn_classes(classes, split.is_val, 6) == 0


@settings(deadline=None, max_examples=40)
@given(
    classes=st.lists(st.sets(st.integers(0, 4), min_size=1, max_size=3).map(tuple), min_size=2, max_size=9),
    seed=st.integers(0, 3),
)
def test_no_split_tears_fewer_classes(classes: list[tuple[int, ...]], seed: int) -> None:
    split = split_images(classes, range(len(classes)), 0.2, seed, 5)

    every = itertools.product([False, True], repeat=len(classes))
    best = min(torn_classes(classes, np.array(side), 5) for side in every)
    assert torn_classes(classes, split.is_val, 5) == len(split.torn) == best


def test_each_class_has_its_share_of_validation() -> None:
    chance = random.Random(3)
    classes = [tuple({chance.choice((0, 0, 0, 1, 1, 2)) for _ in range(2)}) for _ in range(1000)]

    split = split_images(classes, range(1000), 0.2, 0, 3)

    assert split.is_val.sum() == 200
    for number in range(3):
        shown = np.array([number in numbers for numbers in classes])
        assert split.is_val[shown].mean() == pytest.approx(0.2, abs=0.02)


def test_images_that_look_the_same_stay_together() -> None:
    looks = [number // 3 for number in range(90)]

    split = split_images([(number % 4,) for number in range(90)], looks, 0.2, 0, 4)

    assert split.joined == 60
    assert all(len({bool(split.is_val[i]) for i in range(first, first + 3)}) == 1 for first in range(0, 90, 3))
    assert split.is_val.sum() == 18


def test_a_seed_decides_the_split() -> None:
    classes = [(number % 5,) for number in range(100)]

    first, again, other = (split_images(classes, range(100), 0.2, seed, 5).is_val for seed in (7, 7, 8))

    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(("classes", "val"), [([(0,), (1,)], 0.0), ([(0,)], 0.5), ([(0,), (0,)], 0.0)])
def test_nothing_is_for_validation_where_none_is_wanted_or_can_be(classes: list[tuple[int, ...]], val: float) -> None:
    assert not split_images(classes, range(len(classes)), val, 0, 2).is_val.any()


def test_classes_that_contradict_one_another_are_named() -> None:
    split = split_images([(0, 2), (0, 1), (1, 2)], range(3), 0.3, 0, 3)  # two of three pictures are on one side

    assert len(split.torn) == 1
    assert split.is_val.any() and not split.is_val.all()


def test_a_thousand_classes_are_split_in_reasonable_time() -> None:
    chance = random.Random(0)
    classes = [tuple(chance.sample(range(300), 4)) for _ in range(3000)]

    split = split_images(classes, range(3000), 0.1, 0, 300)

    assert split.torn == ()
    assert abs(int(split.is_val.sum()) - 300) <= 3
