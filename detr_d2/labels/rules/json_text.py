"""Halves of characters in somebody's JSON: UTF-16 has two for some, JSON can write one alone, and UTF-8 has none."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

#: So many places are named.
_NAMED = 3
_HALF = re.compile("[\ud800-\udfff]")
#: Texts that have checks of their own.
_CHECKED = re.compile(r"(images|annotations)\[\d+\]\.file_name|categories\[\d+\]\.name")
#: An escaped half, and in a group the other one behind it; not exact, as a backslash may be escaped itself.
_ESCAPED = re.compile(r"\\u[dD](?:[89abAB]..(\\u[dD][c-fC-F])?|[c-fC-F])")


class Halves(NamedTuple):
    """Texts with halves of characters.

    Args:
        texts: how many there are, keys included.
        places: of the first ones, such as ``categories[3].name``.
    """

    texts: int = 0
    places: tuple[str, ...] = ()


#: Of most files.
NONE = Halves()


def find_halves(text: str, content: Any) -> Halves:
    """Texts of a JSON that have half of a character, but for those that have checks of their own.

    Args:
        text: of the file; where no half is escaped, its content isn't looked at.
        content: what it holds.
    """
    if all(found[1] for found in _ESCAPED.finditer(text)):
        return NONE
    count = 0
    places: list[str] = []
    waiting: list[tuple[Any, str]] = [(content, "")]
    while waiting:
        value, place = waiting.pop()
        if isinstance(value, str):
            if _HALF.search(value) and not _CHECKED.fullmatch(place):
                count += 1
                places += [ascii(place)[1:-1] or "at its top"] * (len(places) < _NAMED)
        elif isinstance(value, list):
            waiting += [(item, f"{place}[{number}]") for number, item in reversed([*enumerate(value)])]
        elif isinstance(value, dict):
            for key, item in reversed(value.items()):
                here = f"{place}.{key[:80]}" if place else key[:80]
                waiting += [(item, here), *([(key, f"the key {here}")] if _HALF.search(key) else [])]
    return Halves(count, tuple(places))


def without_halves(value: Any, place: str = "") -> Any:
    """The value of a JSON with U+FFFD, the replacement character, for what :func:`find_halves` finds."""
    if isinstance(value, str):
        return value if _CHECKED.fullmatch(place) else _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_halves(item, f"{place}[0]") for item in value]
    if isinstance(value, dict):
        begin = f"{place}." if place else ""
        return {_HALF.sub("\ufffd", key): without_halves(item, begin + key) for key, item in value.items()}
    return value
