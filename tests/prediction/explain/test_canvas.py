"""What is drawn over images of any size."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from detr_d2.prediction.explain.canvas import draw_apart, draw_outline, panels, show


@pytest.mark.parametrize(("shape", "lines"), [((5, 6), 2), ((1, 6), 0), ((5, 1), 0), ((1, 1), 0)])
def test_outline_of_a_mask_is_drawn_where_it_can_be_one(shape: tuple[int, int], lines: int) -> None:
    axis = Figure().add_subplot()
    mask = np.zeros(shape, bool)
    mask[0, 0] = True

    draw_outline(axis, mask, "red")

    assert len(axis.collections) == lines


def test_texts_that_have_room_stand_apart() -> None:
    _, (axis,) = panels(1, 0.5, 1)
    show(axis, np.zeros((100, 200, 3), np.uint8))
    anchors = [[(50.0, 50.0, "left", "top"), (50.0, 50.0, "right", "bottom"), (150.0, 20.0, "left", "top")]] * 3

    draw_apart(axis, [("80%", "red"), ("90%", "green"), ("70%", "blue")], anchors)

    places = [(*text.get_position(), text.get_horizontalalignment()) for text in axis.texts]
    assert len(places) == len(set(places)) == 3
