"""JSON files written by others: read whole or not at all, as far as memory allows, with all that is odd in their text.

UTF-16 has two halves for some characters; JSON can write one alone, and UTF-8 has none.
"""

from __future__ import annotations

import gc
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any

from detr_d2.errors import DatasetError
from detr_d2.files import open_regular

_HALF = re.compile("[\ud800-\udfff]")
#: Texts that have checks of their own.
_CHECKED = re.compile(r"(images|annotations)\[\d+\]\.file_name|categories\[\d+\]\.name")
#: An escaped half, and in a group the other one behind it; not exact, as a backslash may be escaped itself.
_ESCAPED = re.compile(r"\\u[dD](?:[89abAB]..(\\u[dD][c-fC-F])?|[c-fC-F])")
#: What opens a file to be read from its beginning.
Opener = Callable[[], AbstractContextManager[IO[bytes]]]


class UnreadableJson(Exception):
    """A file holds no object of JSON; ``args`` are the code of the rule that it breaks, and a sentence's end."""


class Oddities:
    """What a parser notes while it reads, and what is found in the text afterwards."""

    def __init__(self) -> None:
        #: How often NaN or Infinity stands in it.
        self.constants = 0
        #: Keys that stand more than once in an object, with the number of such objects; the last value counts.
        self.repeated: dict[str, int] = {}
        #: Places of texts with halves of characters, keys included, such as ``categories[3].name``.
        self.halves: list[str] = []

    def constant(self, name: str) -> float:
        """Takes NaN, Infinity or -Infinity."""
        self.constants += 1
        return float(name.replace("Infinity", "inf"))

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Takes an object."""
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            for key in found:
                if keys.count(key) > 1:
                    self.repeated[key] = self.repeated.get(key, 0) + 1
        return found


def read_object(open_file: Opener, odd_: Oddities | None = None) -> dict[str, Any]:
    """The object at the top of a JSON file.

    Args:
        open_file: may be called twice.
        odd_: gets what is odd in it; without it reading is faster.

    Raises:
        UnreadableJson: there is none.
    """
    try:
        _refuse_large(open_file)
        with open_file() as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig").read()
        content = _parsed(text, odd_)
        if odd_ is not None:
            odd_.halves = find_halves(text, content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnreadableJson("json-missing", "the file isn't there.") from error
    except OSError as error:
        reason = str(error.strerror or error).rstrip(".")
        raise UnreadableJson("json-broken", f"can't be read: {reason}.") from error
    except UnicodeDecodeError as error:
        raise UnreadableJson("json-broken", f"isn't JSON: it isn't text in UTF-8 (byte {error.start}).") from error
    except DatasetError as error:
        raise UnreadableJson("json-broken", str(error)) from error
    except MemoryError as error:
        raise UnreadableJson("json-broken", "doesn't fit into memory.") from error
    except ValueError as error:
        raise UnreadableJson("json-broken", f"isn't JSON: {error}.") from error
    if not isinstance(content, dict):
        found = f"has {json_type(content)} at its top; COCO files have an object"
        raise UnreadableJson("json-type", f"{found} with 'images', 'annotations' and 'categories'.")
    return content


def load_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds; a byte-order mark before it is no fault, as Windows' programs write one.

    Raises:
        SpecialFileError: it is no regular file.
        OSError: it isn't there, or can't be read.
        ValueError: it isn't JSON in UTF-8, or is nested too deeply.
    """
    with open_regular(path) as file:
        return parse_json(file)


def parse_json(file: IO[bytes]) -> Any:
    """What an open JSON file holds; raises a ValueError as :func:`load_json`."""
    return _parsed(io.TextIOWrapper(file, encoding="utf-8-sig").read(), None)


def _parsed(text: str, odd: Oddities | None) -> Any:
    observers: dict[str, Any] = {}
    if odd is not None:
        observers = {"parse_constant": odd.constant, "object_pairs_hook": odd.pairs}
    try:
        with without_collector():
            return json.loads(text, **observers)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@contextmanager
def without_collector() -> Iterator[None]:
    """Labels make no cycles, and looking for some among millions of values takes as long as reading them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _refuse_large(open_file: Opener) -> None:
    needed, free = memory_needed(open_file), memory_free()
    if needed > free:
        sizes = f"{needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        raise UnreadableJson("json-large", f"would take about {sizes}.")


def memory_needed(open_file: Opener) -> int:
    """Bytes that a JSON file's content takes once it is read, at most.

    Each comma, bracket and brace begins a value: 8 bytes for its place and 24 to 64 for itself.
    """
    found, size = dict.fromkeys(b"{[,", 0), 0
    with open_file() as file:
        while block := file.read(2**22):
            size += len(block)
            for character in found:
                found[character] += block.count(character)
    return 3 * size + 240 * found[ord("{")] + 80 * found[ord("[")] + 40 * found[ord(",")]


def memory_free() -> int:
    """Bytes that this process may still take, as far as the system says; else very many."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 2**62


def json_type(value: Any) -> str:
    """What JSON calls the type of a value, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def find_halves(text: str, content: Any) -> list[str]:
    """Places of texts of a JSON that have half of a character, but for those that have checks of their own.

    Args:
        text: of the file; where no half is escaped, its content isn't looked at.
        content: what it holds.
    """
    if all(found[1] for found in _ESCAPED.finditer(text)):
        return []
    places: list[str] = []
    waiting: list[tuple[Any, str]] = [(content, "")]
    while waiting:
        value, place = waiting.pop()
        if isinstance(value, str):
            if _HALF.search(value) and not _CHECKED.fullmatch(place):
                places.append(ascii(place)[1:-1] or "at its top")
        elif isinstance(value, list):
            waiting += [(item, f"{place}[{number}]") for number, item in reversed([*enumerate(value)])]
        elif isinstance(value, dict):
            for key, item in reversed(value.items()):
                here = f"{place}.{key[:80]}" if place else key[:80]
                waiting += [(item, here), *([(key, f"the key {here}")] if _HALF.search(key) else [])]
    return places


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
