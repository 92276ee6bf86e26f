"""What is drawn over images of any size."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from detr_d2.prediction.explain.canvas import draw_outline


@pytest.mark.parametrize(("shape", "lines"), [((5, 6), 2), ((1, 6), 0), ((5, 1), 0), ((1, 1), 0)])
def test_outline_of_a_mask_is_drawn_where_it_can_be_one(shape: tuple[int, int], lines: int) -> None:
    axis = Figure().add_subplot()
    mask = np.zeros(shape, bool)
    mask[0, 0] = True

    draw_outline(axis, mask, "red")

    assert len(axis.collections) == lines
