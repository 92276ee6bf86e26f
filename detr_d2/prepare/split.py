"""Which images are for training and which for validation.

Source: the first step is iterative stratification, Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of
Multi-label Data", section 3.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from detr_d2.labels.rules.splits import group_equal

SPLITS = ("train", "val")

_TRIES = 20
_STEPS_PER_GROUP = 20
_MOST_STEPS = 5000


@dataclass(frozen=True)
class Split:
    """Which side each image is on.

    Args:
        is_val: (N,) bool.
        torn: classes of several images that still are on one side only, as every other choice tears more.
        joined: images that look like an earlier one, and are on its side.
        wanted: so many images should be for validation.
        largest: so many images look the same, at most.
    """

    is_val: np.ndarray
    torn: tuple[int, ...]
    joined: int
    wanted: int = 0
    largest: int = 1


def split_images(
    classes: Sequence[Sequence[int]], looks: Sequence[Hashable], val: float, seed: int, class_count: int
) -> Split:
    """Split by image so that each class has its share on both sides.

    Args:
        classes: for each image the numbers of its classes.
        looks: for each image what is the same for images that look the same; those stay together.
        val: share of validation, 0 to below 1; 0: everything is for training.
        seed: another seed, another split.
        class_count: number of classes.

    Returns:
        The split. Every class that two images have which look different is on both sides, unless classes contradict
        one another; ``torn`` names those.
    """
    groups = group_equal(looks)
    numbered = {first: number for number, first in enumerate(dict.fromkeys(groups))}
    of_image = np.array([numbered[first] for first in groups], dtype=np.int64)
    joined = len(groups) - len(numbered)
    if not val or len(numbered) < 2:
        return Split(np.zeros(len(groups), bool), (), joined)
    has = np.zeros((len(numbered), class_count), bool)
    for group, numbers in zip(of_image, classes):
        has[group, list(numbers)] = True
    sizes = np.bincount(of_image, minlength=len(numbered))
    splitter = _Splitter(has, sizes, val, random.Random(seed))
    side = splitter.split()
    torn = tuple(int(number) for number in np.flatnonzero(_is_torn(has.sum(axis=0), has[side].sum(axis=0))))
    return Split(side[of_image], torn, joined, splitter.wanted, int(sizes.max()))


def _is_torn(total: np.ndarray, in_val: np.ndarray) -> np.ndarray:
    """(K,) bool: classes that two groups or more ``total`` have, and that are ``in_val`` with none or all of them."""
    return (total >= 2) & ((in_val == 0) | (in_val == total))


class _Splitter:
    """Groups of images that look the same, put on two sides: (G,) bool, True for validation.

    Args:
        has: (G, K) bool, which classes a group has.
        sizes: (G,) images of each group.
        val: share of validation.
        generator: decides between equals.
    """

    def __init__(self, has: np.ndarray, sizes: np.ndarray, val: float, generator: random.Random) -> None:
        self._has, self._sizes, self._val, self._generator = has, sizes, val, generator
        self._total = has.sum(axis=0)
        count = int(sizes.sum())
        self.wanted = min(max(round(count * val), 1), count - 1)

    def split(self) -> np.ndarray:
        """The sides; a group of more images than are wanted in validation is in training if it can be."""
        fits = self._sizes <= self.wanted
        side = self._improved(self._stratified(fits))
        if fits.all():
            return side
        other = self._improved(self._stratified(np.ones_like(fits)))
        smallest = np.arange(len(self._sizes)) == self._sizes.argmin()
        return min((side, other, smallest), key=self._badness)

    def _badness(self, side: np.ndarray) -> tuple[bool, int, int]:
        """Whether a side is empty, classes that are torn, images too many or too few for validation."""
        torn = _is_torn(self._total, self._has[side].sum(axis=0))
        return bool(side.all() or not side.any()), int(torn.sum()), abs(int(self._sizes[side].sum()) - self.wanted)

    def _stratified(self, may_validate: np.ndarray) -> np.ndarray:
        """Groups given out class by class, the rarest first, to the side that lacks more of it, or only to training."""
        has, shares = self._has, np.array([1 - self._val, self._val])
        lacking, room = self._total[None] * shares[:, None], self._sizes.sum() * shares
        side = np.zeros(len(has), bool)
        order = list(range(len(has)))
        self._generator.shuffle(order)
        rank = np.argsort(order)
        is_open, counts = np.ones(len(has), bool), self._total.copy()
        while is_open.any():
            rarest = int(np.where(counts > 0, counts, len(has) + 1).argmin()) if (counts > 0).any() else -1
            members = np.flatnonzero(is_open & has[:, rarest]) if rarest >= 0 else np.flatnonzero(is_open)
            for group in members[np.argsort(rank[members])]:
                need = lacking[:, rarest] if rarest >= 0 else room
                lacks = need[1] > need[0] or (need[1] == need[0] and room[1] > room[0])
                to_val = bool(lacks and may_validate[group])
                side[group] = to_val
                lacking[int(to_val)] -= has[group]
                room[int(to_val)] -= self._sizes[group]
                counts -= has[group]
                is_open[group] = False
        return side

    def _improved(self, side: np.ndarray) -> np.ndarray:
        """Groups moved until no class is torn, then until the sizes are right, as far as either can be."""
        best = side
        for attempt in range(_TRIES):
            start = (
                side if attempt == 0 else side ^ np.array([self._generator.random() < 0.3 for _ in side], dtype=bool)
            )
            tried = self._with_right_size(self._with_classes_on_both_sides(start))
            if self._badness(tried) < self._badness(best):
                best = tried
            if not self._badness(best)[1]:
                break
        return best

    def _with_classes_on_both_sides(self, side: np.ndarray) -> np.ndarray:
        """One group of a torn class after the other moved, the one that tears least; now and then any of them."""
        side, best = side.copy(), side.copy()
        in_val = self._has[side].sum(axis=0)
        fewest = int(_is_torn(self._total, in_val).sum())
        for _ in range(min(_STEPS_PER_GROUP * len(side), _MOST_STEPS)):
            torn = np.flatnonzero(_is_torn(self._total, in_val))
            if not len(torn):
                break
            members = np.flatnonzero(self._has[:, self._generator.choice(torn.tolist())])
            steps = self._has[members] * np.where(side[members], -1, 1)[:, None]
            after = _is_torn(self._total, in_val + steps).sum(axis=1)
            is_any = self._generator.random() < 0.2
            index = self._generator.randrange(len(members)) if is_any else int(after.argmin())
            side[members[index]] = not side[members[index]]
            in_val = in_val + steps[index]
            if after[index] < fewest:
                fewest, best = int(after[index]), side.copy()
        return best

    def _with_right_size(self, side: np.ndarray) -> np.ndarray:
        """Groups moved from the side that has too much, where no class is torn by it."""
        side = side.copy()
        in_val = self._has[side].sum(axis=0)
        excess = int(self._sizes[side].sum()) - self.wanted
        for group in np.argsort(self._has.sum(axis=1), kind="stable"):
            own, size = self._has[group], int(self._sizes[group])
            if side[group] == (excess > 0) and abs(excess) >= size and excess:
                left = (in_val if side[group] else self._total - in_val)[own]
                if (left[self._total[own] >= 2] >= 2).all():
                    step = -1 if side[group] else 1
                    side[group] = not side[group]
                    in_val = in_val + step * own
                    excess += step * size
        return side
