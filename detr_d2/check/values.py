"""Small questions about values of somebody's JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeGuard

from detr_d2.labels.json_reading import json_type

from .faults import Fault, fault

_LARGEST = 1e9


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number; truth values aren't."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number that pixels could be counted with: finite, and below a thousand million."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and abs(value) < _LARGEST if isinstance(value, float) else abs(value) < _LARGEST


def is_id(value: Any) -> TypeGuard[int | str]:
    """Whether it can be the id of a picture: a whole number or a word."""
    return is_whole(value) or isinstance(value, str)


def objects_of(content: dict[str, Any], key: str, file: str, faults: list[Fault], **ids: Any) -> list[Any]:
    """The objects in the list ``content[key]``, with None in place of everything that isn't one.

    What is wrong is appended to ``faults``.
    """
    entries = content.get(key)
    if not isinstance(entries, list):
        if key in content:
            faults.append(fault("json-type", file, f"'{key}' is {json_type(entries)}; it must be a list.", **ids))
        else:
            faults.append(fault("json-key", file, f"'{key}' is missing.", **ids))
        return []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            message = f"{key}[{number}] is {json_type(entry)}; it must be an object."
            faults.append(fault("json-type", file, message, **ids))
    return [entry if isinstance(entry, dict) else None for entry in entries]


def numbered(entries: list[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Place and object of each entry that is an object."""
    return ((number, entry) for number, entry in enumerate(entries) if entry is not None)
