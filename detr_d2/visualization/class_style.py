"""Name and colour of a class, from a dataset's metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib import colormaps

from detr_d2.data import Category
from detr_d2.visualization.label_layout import drawn_name

#: Texts stand on a dark ground: their colour is mixed with white until it is at least so bright (0..1).
MIN_TEXT_BRIGHTNESS = 0.72
_BRIGHTNESS_OF_RGB = np.array([0.299, 0.587, 0.114])

Color = tuple[float, float, float]


@dataclass(frozen=True)
class ClassStyle:
    """How a class is shown: its name and its colour, RGB in 0..1."""

    name: str
    color: Color

    @property
    def text_color(self) -> Color:
        """The colour, light enough to be read on a dark ground."""
        color = np.array(self.color)
        brightness = float(color @ _BRIGHTNESS_OF_RGB)
        if brightness < MIN_TEXT_BRIGHTNESS:
            color = color + (1 - color) * (MIN_TEXT_BRIGHTNESS - brightness) / (1 - brightness)
        return _as_color(color)


def metadata_of(categories: Sequence[Category]) -> Any:
    """What drawing asks of Detectron2's ``Metadata``, of categories by contiguous id that belong to no dataset."""
    names, colors = [category.name for category in categories], [category.color for category in categories]
    known = {"thing_classes": names, "stuff_classes": names, "thing_colors": colors, "stuff_colors": colors}
    return SimpleNamespace(get=known.get)


def class_style(metadata: Any, category_id: int, is_thing: bool) -> ClassStyle:
    """Looks a class up; where the metadata knows no name or colour, the id is the name and a colour is picked by it.

    Args:
        metadata: Detectron2's ``Metadata`` of the dataset, with ``thing_classes``, ``stuff_classes``, ``thing_colors``
            and ``stuff_colors`` (RGB in 0..255).
        category_id: contiguous id.
        is_thing: whether to look among things or stuff.
    """
    kind = "thing" if is_thing else "stuff"
    name = _entry(metadata.get(f"{kind}_classes", None), category_id)
    color = _entry(metadata.get(f"{kind}_colors", None), category_id)
    if color is None:
        picked = colormaps["tab20"](category_id % 20)[:3]
        color = 255 * np.array(picked)
    return ClassStyle(drawn_name(str(category_id if name is None else name)), _as_color(np.array(color) / 255))


def _entry(values: Any, index: int) -> Any:
    return values[index] if values is not None and 0 <= index < len(values) else None


def _as_color(values: np.ndarray) -> Color:
    red, green, blue = (float(value) for value in np.clip(values, 0, 1))
    return red, green, blue
