"""Faults of a file's ``images``, and what the other checks need to know of each picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from detr_d2.labels.image_size import size_problem

from .faults import Fault, fault, shown
from .paths import FileNames
from .values import is_id, numbered


@dataclass(frozen=True)
class ListedPicture:
    """A picture as the JSON has it.

    Args:
        image_id: its id.
        width, height: in pixels; 0 and 0 where the JSON doesn't say them rightly.
        path: of its file; None where that isn't known.
    """

    image_id: int | str
    width: int
    height: int
    path: str | None


def image_faults(
    entries: list[Any], file: str, names: FileNames, listed_: dict[int | str, ListedPicture]
) -> Iterator[Fault]:
    """Faults of ids, names and sizes; the pictures are put into ``listed_`` on the way, the first one of each id."""
    for number, entry in numbered(entries):
        place = f"images[{number}]"
        image_id = entry.get("id")
        if not is_id(image_id):
            yield fault("id-type", file, f"{place} has id={shown(image_id)}.")
            continue
        if image_id in listed_:
            yield fault("id-duplicate", file, f"{place} has the id of an earlier picture.", image_id)
            continue
        yield from names.faults(entry.get("file_name"), image_id, place)
        width, height = entry.get("width"), entry.get("height")
        wrong = size_problem(entry)
        if wrong:
            code, message = wrong
            yield fault(code, file, f"{place} {message}", image_id)
            width = height = 0
        listed_[image_id] = ListedPicture(image_id, width or 0, height or 0, names.path(entry.get("file_name")))
