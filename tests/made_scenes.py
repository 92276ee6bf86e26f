"""Small scenes for tests of what is done to image and segments together."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from detr_d2.data.segments import LabelledImage

CLASSES, THINGS = 5, 3


@st.composite
def scenes(draw: st.DrawFn) -> LabelledImage:
    """A small image whose every pixel's colour says which class it shows: 50 + class, or 0 for void."""
    height, width = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    count = draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = rng.integers(CLASSES, size=count)
    stuff_twice = [i for i in range(count) if classes[i] >= THINGS and classes[i] in classes[:i]]
    classes[stuff_twice] = 0  # panoptic PNGs have one segment of a class of stuff
    numbers = rng.integers(count + 1, size=(height, width)).astype(np.uint8)
    colors = np.array([0, *(50 + classes)], np.uint8)[numbers]
    infos = [{"category_id": int(c), "isthing": bool(c < THINGS), "iscrowd": 0} for c in classes]
    return LabelledImage(np.repeat(colors[:, :, None], 3, axis=2), numbers, infos, "a scene")
