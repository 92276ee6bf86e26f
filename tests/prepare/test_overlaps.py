"""Who gets a pixel that several labels claim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_d2.prepare.drawing import Piece, overlapping_pairs, paint
from detr_d2.prepare.options import OVERLAPS, Overlap

SIZE = (12, 16)


@st.composite
def drawn_labels(draw: st.DrawFn) -> list[Piece]:
    labels = []
    for _ in range(draw(st.integers(0, 6))):
        top, left = draw(st.integers(0, SIZE[0] - 1)), draw(st.integers(0, SIZE[1] - 1))
        mask = np.zeros(SIZE, bool)
        mask[top : draw(st.integers(top + 1, SIZE[0])), left : draw(st.integers(left + 1, SIZE[1]))] = True
        labels.append(Piece(mask, int(mask.sum()), draw(st.integers(0, 2)), draw(st.booleans())))
    return labels


def winner(policy: Overlap, claims: list[int], drawn: list[Piece]) -> int:
    """The rule, said for one pixel."""
    objects = [place for place in claims if not drawn[place].is_crowd] or claims
    if policy == "file-order":
        return min(objects)
    if policy == "last":
        return max(objects)
    if policy == "z-order":
        highest = max(drawn[place].z_order for place in objects)
        return max(place for place in objects if drawn[place].z_order == highest)
    smallest = min(drawn[place].area for place in objects)
    return max(place for place in objects if drawn[place].area == smallest)


@pytest.mark.parametrize("policy", OVERLAPS)
@settings(deadline=None, max_examples=40)
@given(drawn=drawn_labels())
def test_each_pixel_goes_to_the_label_that_the_policy_names(policy: Overlap, drawn: list[Piece]) -> None:
    canvas = paint(drawn, policy, SIZE)

    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            claims = [place for place, one in enumerate(drawn) if one.mask[row, column]]
            expected = winner(policy, claims, drawn) + 1 if claims else 0
            assert canvas[row, column] == expected


@settings(deadline=None, max_examples=60)
@given(drawn=drawn_labels())
def test_overlapping_pairs_are_all_those_that_share_pixels(drawn: list[Piece]) -> None:
    pairs = overlapping_pairs(drawn, paint(drawn, "error", SIZE))

    expected = []
    for one, first in enumerate(drawn):
        for other, second in enumerate(drawn[:one]):
            shared = int((first.mask & second.mask).sum())
            if shared >= 4 and shared > 0.01 * min(first.area, second.area) and not (first.is_crowd or second.is_crowd):
                expected.append((other, one, shared))
    assert pairs == sorted(expected)
