"""Sine positions: the formula of the paper, and padding."""

import math

import pytest
import torch

from detr_d2.modeling.position_encoding import PositionEmbeddingSine


def test_positions_follow_the_formula_at_one_place():
    encoding = PositionEmbeddingSine(num_pos_feats=4)

    out = encoding(torch.zeros(1, 5, 3, dtype=torch.bool))

    y = 2 / (5 + 1e-6) * 2 * math.pi  # second row of five, counted from 1
    x = 3 / (3 + 1e-6) * 2 * math.pi
    waves = [f(p / 10000 ** (i / 4)) for p in (y, x) for i in (0, 2) for f in (math.sin, math.cos)]
    torch.testing.assert_close(out[0, :, 1, 2], torch.tensor(waves), atol=1e-5, rtol=0)


def test_positions_of_the_image_do_not_change_with_padding():
    encoding = PositionEmbeddingSine(num_pos_feats=8)
    padded = torch.ones(1, 9, 11, dtype=torch.bool)
    padded[:, :4, :6] = False

    alone, inside = encoding(torch.zeros(1, 4, 6, dtype=torch.bool)), encoding(padded)[:, :, :4, :6]

    torch.testing.assert_close(inside, alone)


def test_odd_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="num_pos_feats=3"):
        PositionEmbeddingSine(num_pos_feats=3)
