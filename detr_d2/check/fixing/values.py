"""Values of somebody's JSON, made what they were meant to be where that is beyond doubt."""

from __future__ import annotations

import math
import re
from typing import Any

from ..values import is_whole

_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
#: Lists in lists beyond this are left out: no label file needs them, and not every program can write them.
_DEEPEST = 40


def as_whole(value: Any) -> int | None:
    """The whole number that it is, or is written as: ``7``, ``7.0``, ``"7"``; else None."""
    if is_whole(value):
        return value
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    return None


def as_flag(value: Any) -> int | None:
    """0 or 1 where it is one of the two in some form; else None."""
    if isinstance(value, bool):
        return int(value)
    number = as_whole(value)
    return number if number in (0, 1) else None


def same(first: Any, second: Any) -> bool:
    """Whether two values of a JSON are equal; those nested beyond reason aren't."""
    try:
        return bool(first == second)
    except RecursionError:
        return False


def shallow(value: Any, depth: int = 0) -> Any:
    """The value with None in place of lists and objects that are nested beyond reason."""
    if not isinstance(value, (list, dict)):
        return value
    if depth >= _DEEPEST:
        return None
    if isinstance(value, list):
        return [shallow(item, depth + 1) for item in value]
    return {key: shallow(item, depth + 1) for key, item in value.items()}


def strict(value: Any) -> Any:
    """A shallow value as strict JSON can hold it: None in place of NaN and Infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [strict(item) for item in value]
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    return value
