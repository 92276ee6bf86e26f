"""Values of somebody's JSON, names and sizes included: what they are, and what they were meant to be beyond doubt."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

#: width, height
Size = tuple[int, int]

_LARGEST = 1e9
_LONGEST = 80
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
#: Lists in lists beyond this are left out: no label file needs them, and not every program can write them.
_DEEPEST = 40
#: The largest id of a segment: as much as the three bytes of a colour hold.
MAX_SEGMENT_ID = 256**3 - 1
#: Pixels beyond which Pillow refuses to open an image.
MOST_PIXELS = 178_956_970


class Unreadable(Exception):
    """A file or a shape can't be read; ``args`` are the code of the rule that it breaks, and a sentence's end."""


def shown(value: Any) -> str:
    """A value of somebody's file for a message: one line, printable, not long."""
    if isinstance(value, (list, dict)) and len(value) > 8:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} entries"
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested beyond reason, or a number of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number; truth values aren't."""
    return type(value) is int  # of millions of values


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number that pixels could be counted with: finite, and below a thousand million."""
    return (type(value) is float or type(value) is int) and -_LARGEST < value < _LARGEST  # NaN isn't, either


def color_of(value: Any) -> tuple[int, int, int] | None:
    """A colour; None for what isn't red, green and blue from 0 to 255."""
    if isinstance(value, list) and len(value) == 3 and all(is_whole(part) and 0 <= part <= 255 for part in value):
        return value[0], value[1], value[2]
    return None


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all of a list are numbers, as :func:`is_number` says of one; of outlines there are millions."""
    if not set(map(type, values)) <= {int, float}:
        return False
    is_small = not values or (min(values) > -_LARGEST and max(values) < _LARGEST)
    return is_small and math.isfinite(sum(values))


def is_id(value: Any) -> TypeGuard[int | str]:
    """Whether it can be the id of an image: a whole number or a word."""
    return is_whole(value) or isinstance(value, str)


def numbered(entries: list[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Index and object of each entry that is an object."""
    return ((number, entry) for number, entry in enumerate(entries) if isinstance(entry, dict))


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
    number = int(value) if isinstance(value, bool) else as_whole(value)
    return number if number in (0, 1) else None


def free_ids(entries: Iterable[dict[str, Any]]) -> Iterator[int]:
    """Ids beyond all that are used; the entries are looked at when the first one is asked for."""
    number = max((number for entry in entries if (number := as_whole(entry.get("id"))) is not None), default=0)
    while True:
        number += 1
        yield number


def same(first: Any, second: Any) -> bool:
    """Whether two values of a JSON are equal; those nested beyond reason aren't."""
    try:
        return bool(first == second)
    except RecursionError:
        return False


def shallow(value: Any, depth: int = 0) -> Any:
    """A copy of the value with None in place of lists and objects that are nested beyond reason."""
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


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8: it has no lone surrogate, of odd bytes or of JSON's escapes."""
    return re.search("[\ud800-\udfff]", name) is None


def size_problem(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """What is wrong with ``width`` and ``height`` of an image's entry; None for a size that an image can have.

    Returns:
        The code of the fault and a sentence's end, such as "has no width.".
    """
    for key in ("width", "height"):
        value = entry.get(key)
        if key not in entry:
            return "json-key", f"has no {key}."
        if not is_whole(value) or value < 1:
            return "json-type", f"has {key}={shown(value)}; it must be a whole number of pixels."
    if entry["width"] * entry["height"] > MOST_PIXELS:
        return "image-large", f"is said to be {shown(entry['width'])}x{shown(entry['height'])} pixels; too many."
    return None
