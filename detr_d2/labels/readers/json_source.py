"""COCO JSON files of unknown origin: read only if memory allows, their shared parts checked."""

from __future__ import annotations

import io
import json
import math
from typing import Any

from detr_d2.errors import DatasetError

from ..json_reading import json_type, list_of
from ..memory import memory_free
from ..records import ClassRecord, FileRef

#: Bytes that what begins after a sign takes once it is read.
_COSTS = {b",": 40, b"{": 240, b"[": 80}
Id = int | str


def load_json(file: FileRef) -> dict[str, Any]:
    """The object at the top of a JSON file.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read, isn't JSON, isn't an object, or wouldn't fit into memory.
    """
    content = file.read()
    needed = 2 * len(content) + sum(cost * content.count(sign) for sign, cost in _COSTS.items())
    free = memory_free()
    if needed > free:
        raise DatasetError(
            f"{file} would take about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free. "
            "Split it by pictures, or take a machine with more memory."
        )
    try:
        top = json.load(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig"))
    except RecursionError as error:
        raise DatasetError(f"{file} is nested too deeply. Export it again.") from error
    except ValueError as error:
        raise DatasetError(f"{file} isn't JSON: {error}. Export it again, or restore it.") from error
    if not isinstance(top, dict):
        raise DatasetError(f"{file} has {json_type(top)} at its top; COCO files have an object.")
    return top


def part(content: dict[str, Any], key: str, file: FileRef) -> list[dict[str, Any]]:
    """One of the lists of objects, such as ``images``; raises DatasetError if it isn't that."""
    return list_of(content, key, str(file))


def id_of(value: Any) -> Id | None:
    """An id as others refer to it: a whole number, also where it is written as a text; a word; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, str) and len(value) < 19 and value.isdecimal() and str(int(value)) == value:
        return int(value)
    return value


def number_of(value: Any) -> int:
    """An annotation's id for messages; 0 for what is no whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else 0


def classes_of(content: dict[str, Any], file: FileRef, are_things: bool | None) -> dict[Id, ClassRecord]:
    """The classes by their id, in the file's order.

    Args:
        content: of the file.
        file: for messages.
        are_things: what they are where the file doesn't say.

    Raises:
        DatasetError: an id isn't one, or comes twice; a class has no name.
    """
    classes: dict[Id, ClassRecord] = {}
    for number, entry in enumerate(part(content, "categories", file)):
        key, name = id_of(entry.get("id")), entry.get("name")
        if key is None or not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{file}: categories[{number}] lacks an id or a name. Write both.")
        if key in classes:
            raise DatasetError(f"{file}: category id {key} is there twice. Give each class an id of its own.")
        said = entry.get("isthing")
        is_thing = bool(said) if said in (0, 1) else are_things
        classes[key] = ClassRecord(name, is_thing, _color(entry.get("color")))
    return classes


def _color(value: Any) -> tuple[int, int, int] | None:
    if isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value):
        return (value[0], value[1], value[2])
    return None


def finite_numbers(values: Any, count: int | None = None) -> tuple[float, ...] | None:
    """A list of finite numbers, so many of them if ``count`` says; None for all else."""
    if not isinstance(values, list) or (count is not None and len(values) != count):
        return None
    if not set(map(type, values)) <= {int, float}:  # JSON's truth values are of another type
        return None
    try:
        found = tuple(map(float, values))
    except OverflowError:
        return None
    is_finite = math.isfinite(sum(found)) and min(found, default=0.0) > -1e300 and max(found, default=0.0) < 1e300
    return found if is_finite else None
