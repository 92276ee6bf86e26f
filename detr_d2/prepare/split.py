"""Which pictures are for training and which for validation.

Source: the first step is iterative stratification, Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of
Multi-label Data", section 3.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from detr_d2.labels.near_duplicates import group_equal

_TRIES = 20
_STEPS_PER_GROUP = 20
_MOST_STEPS = 5000


@dataclass(frozen=True)
class Split:
    """Which side each picture is on.

    Args:
        is_val: (N,) bool.
        torn: classes of several pictures that still are on one side only, as every other choice tears more.
        joined: pictures that look like an earlier one, and are on its side.
        wanted: so many pictures should be for validation.
        largest: so many pictures look the same, at most.
    """

    is_val: np.ndarray
    torn: tuple[int, ...]
    joined: int
    wanted: int = 0
    largest: int = 1


def split_pictures(
    classes: Sequence[Sequence[int]], looks: Sequence[Hashable], val: float, seed: int, class_count: int
) -> Split:
    """Split by picture so that each class has its share on both sides.

    Args:
        classes: for each picture the numbers of its classes.
        looks: for each picture what is the same for pictures that look the same; those stay together.
        val: share of validation, 0 to below 1; 0: everything is for training.
        seed: another seed, another split.
        class_count: number of classes.

    Returns:
        The split. Every class that two pictures have which look different is on both sides, unless classes contradict
        one another; ``torn`` names those.
    """
    groups = group_equal(looks)
    numbered = {first: number for number, first in enumerate(dict.fromkeys(groups))}
    of_picture = np.array([numbered[first] for first in groups], dtype=np.int64)
    joined = len(groups) - len(numbered)
    if not val or len(numbered) < 2:
        return Split(np.zeros(len(groups), bool), (), joined)
    has = np.zeros((len(numbered), class_count), bool)
    for group, numbers in zip(of_picture, classes):
        has[group, list(numbers)] = True
    sizes = np.bincount(of_picture, minlength=len(numbered))
    wanted = min(max(round(len(groups) * val), 1), len(groups) - 1)
    generator = random.Random(seed)
    side = _split_groups(has, sizes, wanted, val, generator)
    torn = tuple(int(number) for number in np.flatnonzero(_is_torn(has, side)))
    return Split(side[of_picture], torn, joined, wanted, int(sizes.max()))


def _split_groups(has: np.ndarray, sizes: np.ndarray, wanted: int, val: float, generator: random.Random) -> np.ndarray:
    """(G,) bool, True for validation; a group of more pictures than are wanted there is in training if it can be."""
    fits = sizes <= wanted
    side = _mended(has, sizes, _stratified(has, sizes, val, generator, fits), wanted, generator)
    if fits.all():
        return side
    other = _mended(has, sizes, _stratified(has, sizes, val, generator, np.ones_like(fits)), wanted, generator)
    smallest = np.arange(len(sizes)) == sizes.argmin()
    return min((side, other, smallest), key=lambda one: _badness(has, sizes, one, wanted))


def _stratified(
    has: np.ndarray, sizes: np.ndarray, val: float, generator: random.Random, may_validate: np.ndarray
) -> np.ndarray:
    """Groups of pictures given out class by class, the rarest first, to the side that lacks more of it.

    Args:
        has: (G, K) bool, which classes a group has.
        sizes: (G,) pictures of each group.
        val: share of validation.
        generator: decides between equals.
        may_validate: (G,) bool; the other groups are for training.

    Returns:
        (G,) bool, True for validation.
    """
    shares = np.array([1 - val, val])
    lacking = has.sum(axis=0)[None] * shares[:, None]
    room = sizes.sum() * shares
    side = np.zeros(len(has), bool)
    order = list(range(len(has)))
    generator.shuffle(order)
    rank = np.empty(len(has), np.int64)
    rank[order] = np.arange(len(has))
    open_ = np.ones(len(has), bool)
    counts = has.sum(axis=0)
    while open_.any():
        rarest = int(np.where(counts > 0, counts, len(has) + 1).argmin()) if (counts > 0).any() else -1
        members = np.flatnonzero(open_ & has[:, rarest]) if rarest >= 0 else np.flatnonzero(open_)
        for group in members[np.argsort(rank[members])]:
            need = lacking[:, rarest] if rarest >= 0 else room
            lacks = need[1] > need[0] or (need[1] == need[0] and room[1] > room[0])
            to_val = bool(lacks and may_validate[group])
            side[group] = to_val
            lacking[int(to_val)] -= has[group]
            room[int(to_val)] -= sizes[group]
            counts -= has[group]
            open_[group] = False
    return side


def _is_torn(has: np.ndarray, side: np.ndarray) -> np.ndarray:
    """(K,) bool: classes of two groups or more that are on one side only."""
    return _torn(has.sum(axis=0), has[side].sum(axis=0))


def _torn(total: np.ndarray, in_val: np.ndarray) -> np.ndarray:
    return (total >= 2) & ((in_val == 0) | (in_val == total))


def _mended(has: np.ndarray, sizes: np.ndarray, side: np.ndarray, wanted: int, generator: random.Random) -> np.ndarray:
    """Groups moved until no class is torn, then until the sizes are right, as far as either can be."""
    best = side
    for attempt in range(_TRIES):
        tried = _untorn(has, side if attempt == 0 else _shaken(side, generator), generator)
        tried = _resized(has, sizes, tried, wanted)
        if _badness(has, sizes, tried, wanted) < _badness(has, sizes, best, wanted):
            best = tried
        if not _is_torn(has, best).any():
            break
    return best


def _badness(has: np.ndarray, sizes: np.ndarray, side: np.ndarray, wanted: int) -> tuple[bool, int, int]:
    """Whether a side is empty, classes that are torn, images too many or too few for validation."""
    is_one_sided = bool(side.all() or not side.any())
    return is_one_sided, int(_is_torn(has, side).sum()), abs(int(sizes[side].sum()) - wanted)


def _shaken(side: np.ndarray, generator: random.Random) -> np.ndarray:
    """Some groups on the other side, to start from elsewhere."""
    return side ^ np.array([generator.random() < 0.3 for _ in side], dtype=bool)


def _untorn(has: np.ndarray, side: np.ndarray, generator: random.Random) -> np.ndarray:
    """One group of a torn class after the other moved, the one that tears least; now and then any of them."""
    side, best = side.copy(), side.copy()
    total, in_val = has.sum(axis=0), has[side].sum(axis=0)
    fewest = int(_torn(total, in_val).sum())
    for _ in range(min(_STEPS_PER_GROUP * len(has), _MOST_STEPS)):
        torn = np.flatnonzero(_torn(total, in_val))
        if not len(torn):
            break
        members = np.flatnonzero(has[:, generator.choice(torn.tolist())])
        steps = has[members] * np.where(side[members], -1, 1)[:, None]
        after = _torn(total, in_val + steps).sum(axis=1)
        chosen = generator.randrange(len(members)) if generator.random() < 0.2 else int(after.argmin())
        side[members[chosen]] = not side[members[chosen]]
        in_val = in_val + steps[chosen]
        if after[chosen] < fewest:
            fewest, best = int(after[chosen]), side.copy()
    return best


def _resized(has: np.ndarray, sizes: np.ndarray, side: np.ndarray, wanted: int) -> np.ndarray:
    """Groups moved from the side that has too much, where no class is torn by it."""
    side = side.copy()
    total = has.sum(axis=0)
    in_val = has[side].sum(axis=0)
    excess = int(sizes[side].sum()) - wanted
    for group in np.argsort(has.sum(axis=1), kind="stable"):
        size = int(sizes[group])
        if side[group] == (excess > 0) and abs(excess) >= size and excess:
            left = (in_val if side[group] else total - in_val)[has[group]]
            if (left[total[has[group]] >= 2] >= 2).all():
                step = -1 if side[group] else 1
                side[group] = not side[group]
                in_val = in_val + step * has[group]
                excess += step * size
    return side
