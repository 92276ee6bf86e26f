"""Ways to break a dataset: each with the fault that it is, and whether image and segment are named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Gets the dataset, an image's entry and a segment of it.
Break = Callable[[Any, Any, Any], None]

#: Whether the image id is named, and whether the segment's (or annotation's) is.
FILE, IMAGE, SEGMENT = (False, False), (True, False), (True, True)
BOTH, INSTANCES, PANOPTIC = (False, True), (False,), (True,)


class Ways:
    """Collects ways to break, as parameters of a test: the way, its fault, what is named, and panoptic or not."""

    def __init__(self) -> None:
        self.cases: list[Any] = []

    def case(self, code: str, named: tuple[bool, bool], formats: tuple[bool, ...] = BOTH) -> Callable[[Break], Break]:
        """Registers the function below it."""

        def keep(function: Break) -> Break:
            for panoptic in formats:
                name = f"{function.__name__}-{'panoptic' if panoptic else 'instances'}"
                self.cases.append(pytest.param(function, code, named, panoptic, id=name))
            return function

        return keep

    def field(self, code: str, key: str, *values: Any, formats: tuple[bool, ...] = BOTH) -> None:
        """Registers wrong values of a field of a segment."""
        for number, value in enumerate(values):

            def wrong(built: Any, image: Any, segment: Any, value: Any = value) -> None:
                segment[key] = copy.deepcopy(value)

            wrong.__name__ = f"{key}-{code}-{number}"
            self.case(code, SEGMENT, formats)(wrong)


def png_of(built: Any, image: Any) -> Path:
    """The panoptic PNG of an image."""
    entry = next(entry for entry in built.content["annotations"] if entry["image_id"] == image["id"])
    return Path(built.folder / "panoptic" / entry["file_name"])


def segments_of(built: Any, image: Any) -> list[Any]:
    """The segments, or annotations, of an image."""
    entries = [entry for entry in built.content["annotations"] if entry["image_id"] == image["id"]]
    return entries[0]["segments_info"] if built.panoptic else entries
