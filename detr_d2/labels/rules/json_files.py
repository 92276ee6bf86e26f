"""JSON files of unknown origin: read whole or not at all, as far as memory allows, with all that is odd as findings.

UTF-16 has two halves for some characters; JSON can write one alone, and UTF-8 has none.
"""

from __future__ import annotations

import gc
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.files import open_regular

from ..archives import opened
from ..values import Unreadable, shallow, shown
from .rule import Done, Finding, Fix, Place, fixing, raise_errors

#: Lists of objects that a COCO file has.
PARTS = ("images", "annotations", "categories")
#: Keys that stand twice are named one by one, and places of halves of characters, up to so many.
_MOST_KEYS, _MOST_TEXTS = 20, 3
_HALF = re.compile("[\ud800-\udfff]")
#: Texts that have checks of their own.
_CHECKED = re.compile(r"(images|annotations)\[\d+\]\.file_name|categories\[\d+\]\.name")
#: An escaped half, and in a group the other one behind it; not exact, as a backslash may be escaped itself.
_ESCAPED = re.compile(r"\\u[dD](?:[89abAB]..(\\u[dD][c-fC-F])?|[c-fC-F])")
#: What opens a file to be read from its beginning.
Opener = Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass
class ReadJson:
    """What a file held, and what is odd in its text.

    Args:
        place: the file.
        content: the object at its top, or None where there is none.
        failure: why there is none.
        constants: how often NaN or Infinity stands in it.
        repeated: keys that stand more than once in an object, with the number of such objects; the last value counts.
        halves: places of texts with halves of characters, keys included, such as ``categories[3].name``.
    """

    place: Place
    content: dict[str, Any] | None = None
    failure: Finding | None = None
    constants: int = 0
    repeated: Counter[str] = field(default_factory=Counter)
    halves: list[str] = field(default_factory=list)

    def constant(self, name: str) -> float:
        """Takes NaN, Infinity or -Infinity from the parser."""
        self.constants += 1
        return float(name.replace("Infinity", "inf"))

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Takes an object from the parser."""
        found = dict(pairs)
        if len(found) != len(pairs):
            self.repeated.update(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return found

    def rules(self) -> Iterator[Finding]:
        """What is wrong with the text: nothing to read, keys that stand twice, halves of characters."""
        if self.failure is not None:
            yield self.failure
            return
        for key, count in list(self.repeated.items())[:_MOST_KEYS]:
            where = "an object has" if count == 1 else f"{count} objects have"
            text = f"{where} the key {shown(key)} more than once"
            yield self.place.found("json-repeated", f"{text}.", self._keep_last(text))
        if len(self.repeated) > _MOST_KEYS:
            message = f"so have {len(self.repeated) - _MOST_KEYS} other keys."
            yield self.place.found("json-repeated", message, fixing("so are other keys"))
        if self.halves:
            count, examples = len(self.halves), ", ".join(self.halves[:_MOST_TEXTS])
            text = "a text has" if count == 1 else f"{count} texts have"
            message = f"{text} half of a character (a lone surrogate): {examples}."
            yield self.place.found("json-text", message, self._replace_halves)

    def constant_rules(self) -> Iterator[Finding]:
        """NaN or Infinity somewhere in the file."""
        if self.constants:
            text = f"NaN or Infinity stands there {self.constants} times"
            fix = fixing(f"{text}: null now, where nothing better is known")
            yield self.place.found("json-number", f"{text}.", fix)

    def _keep_last(self, text: str) -> Fix | None:
        """A list of labels of which others are lost can't be fixed."""
        is_lost = any(name in self.repeated for name in (*PARTS, "segments_info"))
        return None if is_lost else fixing(f"{text}; the last value is kept")

    def _replace_halves(self) -> Done:
        self.content = _without_halves(shallow(self.content))
        return Done("fixed", f"halves of characters in {len(self.halves)} texts are U+FFFD now")


def read_json_file(path: str) -> ReadJson:
    """Read a file, on disk or in a zip, as JSON; nothing is raised, whatever it holds."""
    read = ReadJson(Place(path))
    try:
        read.content = read_object(lambda: opened(path), read)
    except Unreadable as problem:
        read.failure = read.place.found(*problem.args)
    return read


def read_json(path: str, advice: str = "") -> dict[str, Any]:
    """The object at the top of a file; ``advice`` is what to do where it is missing, in place of what the rule says.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read, isn't JSON, or isn't an object at its top.
    """
    try:
        return read_object(lambda: open_regular(path))
    except Unreadable as problem:
        if problem.args[0] == "json-missing" and advice:
            raise MissingFileError(f"{os.path.abspath(path)} isn't there. {advice}") from problem
        raise_errors([Place(path).found(*problem.args)])
        raise  # it is an error


def read_object(open_file: Opener, odd_: ReadJson | None = None) -> dict[str, Any]:
    """The object at the top of a JSON file.

    Args:
        open_file: may be called twice.
        odd_: gets what is odd in it; without it reading is faster.

    Raises:
        Unreadable: there is none.
    """
    try:
        needed, free = memory_needed(open_file), memory_free()
        if needed > free:
            sizes = f"{needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
            raise Unreadable("json-large", f"would take about {sizes}.")
        with open_file() as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig").read()
        content = _parsed(text, odd_)
        if odd_ is not None:
            odd_.halves = _find_halves(text, content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unreadable("json-missing", "the file isn't there.") from error
    except (OSError, DatasetError, MemoryError, ValueError) as error:
        raise Unreadable("json-broken", _why_broken(error)) from error
    if not isinstance(content, dict):
        found = f"has {json_type(content)} at its top; COCO files have an object"
        raise Unreadable("json-type", f"{found} with 'images', 'annotations' and 'categories'.")
    return content


def _why_broken(error: Exception) -> str:
    if isinstance(error, DatasetError):
        return str(error)
    if isinstance(error, OSError):
        return f"can't be read: {str(error.strerror or error).rstrip('.')}."
    if isinstance(error, UnicodeDecodeError):
        return f"isn't JSON: it isn't text in UTF-8 (byte {error.start})."
    return "doesn't fit into memory." if isinstance(error, MemoryError) else f"isn't JSON: {error}."


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


def _parsed(text: str, odd: ReadJson | None) -> Any:
    observers = {"parse_constant": odd.constant, "object_pairs_hook": odd.pairs} if odd is not None else {}
    try:
        with without_collector():
            return json.loads(text, **observers)  # type: ignore[arg-type]
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


def list_rules(content: dict[str, Any], key: str, place: Place) -> Iterator[Finding]:
    """What is wrong with ``content[key]`` as a list of objects; fixed, what isn't an object goes.

    An empty list is wrong only where there is nothing to be labelled, or nothing to label with.
    """
    entries = content.get(key)
    if key not in content:
        yield place.found("json-key", f"'{key}' is missing.")
    elif not isinstance(entries, list):
        yield place.found("json-type", f"'{key}' is {json_type(entries)}; it must be a list.")
    else:
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                message = f"{key}[{number}] is {json_type(entry)}; it must be an object."
                fix = fixing(f"{key}[{number}] is {shown(entry)}", action="removed")
                yield place.found("json-type", message, fix)


def list_of(content: dict[str, Any], key: str, file: str) -> list[dict[str, Any]]:
    """``content[key]``, which must be a list of objects.

    Raises:
        DatasetError: it isn't.
    """
    raise_errors(list_rules(content, key, Place(file)))
    entries: list[dict[str, Any]] = content[key]
    return entries


def objects_of(content: dict[str, Any], key: str) -> list[Any]:
    """The list ``content[key]``; empty where there is none."""
    entries = content.get(key)
    return entries if isinstance(entries, list) else []


def _find_halves(text: str, content: Any) -> list[str]:
    """Places of texts that have half of a character, but for those that have checks of their own."""
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


def _without_halves(value: Any, place: str = "") -> Any:
    """The value of a JSON with U+FFFD, the replacement character, for what :func:`_find_halves` finds."""
    if isinstance(value, str):
        return value if _CHECKED.fullmatch(place) else _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_halves(item, f"{place}[0]") for item in value]
    if isinstance(value, dict):
        begin = f"{place}." if place else ""
        return {_HALF.sub("\ufffd", key): _without_halves(item, begin + key) for key, item in value.items()}
    return value
