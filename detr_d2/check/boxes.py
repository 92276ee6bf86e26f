"""Faults of boxes, areas, crowds and categories of one annotation or segment, as the JSON says them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .faults import Fault, fault, shown
from .values import is_number, is_whole

#: Pixels by which boxes and polygons may pass the picture's edge: what tools round differently.
EDGE = 1.0


@dataclass(frozen=True)
class Place:
    """Where an entry is.

    Args:
        file: the JSON.
        image_id: of its picture.
        segment_id: its own.
        text: names it in a message.
    """

    file: str
    image_id: Any
    segment_id: Any
    text: str

    def fault(self, code: str, message: str) -> Fault:
        """A fault of this entry; ``message`` goes on where the entry's name ends."""
        return fault(code, self.file, f"{self.text} {message}", self.image_id, self.segment_id)


def box_faults(entry: dict[str, Any], width: int, height: int, place: Place) -> Iterator[Fault]:
    """Faults of ``bbox`` against a picture of this size; 0 and 0: not known."""
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        yield place.fault("box", f"has bbox={shown(box)}.")
        return
    x, y, w, h = box
    if w <= 0 or h <= 0:
        yield place.fault("box-empty", f"has bbox={shown(box)}, without an area.")
    elif width and (x >= width or y >= height or x + w <= 0 or y + h <= 0):
        yield place.fault("box-outside", f"has bbox={shown(box)}, outside its picture of {width}x{height}.")
    elif width and (x < -EDGE or y < -EDGE or x + w > width + EDGE or y + h > height + EDGE):
        yield place.fault("box-beyond", f"has bbox={shown(box)}, beyond its picture of {width}x{height}.")


def area_faults(entry: dict[str, Any], place: Place, counted: bool) -> Iterator[Fault]:
    """Faults of ``area`` by itself.

    Args:
        counted: the area is that of the pixels of a PNG, a whole number.
    """
    if "area" not in entry:
        yield place.fault("area-missing", "has no area.")
        return
    area = entry["area"]
    if not is_number(area) or area <= 0:
        yield place.fault("area", f"has area={shown(area)}.")
    elif counted and not is_whole(area):
        yield place.fault("area-fraction", f"has area={shown(area)}.")


def crowd_faults(entry: dict[str, Any], place: Place) -> Iterator[Fault]:
    """Faults of ``iscrowd``, and crowds themselves."""
    crowd = entry.get("iscrowd", 0)
    if not is_whole(crowd) or crowd not in (0, 1):
        yield place.fault("crowd-value", f"has iscrowd={shown(crowd)}.")
    elif crowd:
        yield place.fault("crowd", "is a crowd.")


def category_of_faults(entry: dict[str, Any], names: Mapping[int, Any], place: Place) -> Iterator[Fault]:
    """Faults of ``category_id``."""
    category_id = entry.get("category_id")
    if not is_whole(category_id):
        yield place.fault("category-id", f"has category_id={shown(category_id)}.")
    elif category_id not in names:
        yield place.fault("category-unknown", f"has category_id={shown(category_id)}, which categories lacks.")


def is_crowd(entry: dict[str, Any]) -> bool:
    """Whether it is said to be a crowd, in whatever form."""
    return entry.get("iscrowd", 0) in (1, True)


class CrowdCount:
    """How many entries of each category there are, and how many of them are crowds."""

    def __init__(self) -> None:
        self._all: dict[int, int] = {}
        self._crowds: dict[int, int] = {}
        self._from_cvat = False

    def add(self, entry: dict[str, Any]) -> None:
        """Count one annotation."""
        category_id = entry.get("category_id")
        if is_whole(category_id):
            self._all[category_id] = self._all.get(category_id, 0) + 1
            if is_crowd(entry):
                self._crowds[category_id] = self._crowds.get(category_id, 0) + 1
        attributes = entry.get("attributes")
        self._from_cvat |= isinstance(attributes, dict) and "occluded" in attributes

    def faults(self, names: Mapping[int, Any], file: str) -> Iterator[Fault]:
        """Categories of which CVAT wrote crowds only: its brush masks, which every loader drops."""
        for category_id, crowds in sorted(self._crowds.items()):
            if self._from_cvat and crowds == self._all[category_id]:
                name = shown(names.get(category_id, category_id))
                message = f"all {crowds} annotations of the category {name} are crowds: nothing of it would be learnt."
                yield fault("crowd-only", file, message)
