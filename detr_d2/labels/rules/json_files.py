"""JSON files of unknown origin: read as far as they can be, with all that is wrong with them as findings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from detr_d2.errors import MissingFileError
from detr_d2.files import open_regular

from ..archives import opened
from ..json_reading import Oddities, UnreadableJson, json_type, read_object, without_halves
from ..values import shallow, shown
from .rule import Done, Finding, Fix, Place, fixing, raise_errors

#: Lists of objects that a COCO file has.
PARTS = ("images", "annotations", "categories")
#: Keys that stand twice are named one by one, and places of halves of characters, up to so many.
_MOST_KEYS, _MOST_TEXTS = 20, 3


@dataclass
class ReadJson:
    """What a file held.

    Args:
        place: the file.
        content: the object at its top, or None where there is none.
        failure: why there is none.
        odd: what is odd in its text.
    """

    place: Place
    content: dict[str, Any] | None = None
    failure: Finding | None = None
    odd: Oddities = field(default_factory=Oddities)

    def rules(self) -> Iterator[Finding]:
        """What is wrong with the text: nothing to read, keys that stand twice, halves of characters."""
        if self.failure is not None:
            yield self.failure
            return
        for key, count in list(self.odd.repeated.items())[:_MOST_KEYS]:
            where = "an object has" if count == 1 else f"{count} objects have"
            text = f"{where} the key {shown(key)} more than once"
            yield self.place.found("json-repeated", f"{text}.", self._keep_last(key, text))
        if len(self.odd.repeated) > _MOST_KEYS:
            message = f"so have {len(self.odd.repeated) - _MOST_KEYS} other keys."
            yield self.place.found("json-repeated", message, fixing("so are other keys"))
        if self.odd.halves:
            count, examples = len(self.odd.halves), ", ".join(self.odd.halves[:_MOST_TEXTS])
            text = "a text has" if count == 1 else f"{count} texts have"
            message = f"{text} half of a character (a lone surrogate): {examples}."
            yield self.place.found("json-text", message, self._replace_halves)

    def constant_rules(self) -> Iterator[Finding]:
        """NaN or Infinity somewhere in the file."""
        if self.odd.constants:
            text = f"NaN or Infinity stands there {self.odd.constants} times"
            fix = fixing(f"{text}: null now, where nothing better is known")
            yield self.place.found("json-number", f"{text}.", fix)

    def _keep_last(self, key: str, text: str) -> Fix | None:
        """A list of labels of which others are lost can't be fixed."""
        if any(name in self.odd.repeated for name in (*PARTS, "segments_info")):
            return None
        return fixing(f"{text}; the last value is kept")

    def _replace_halves(self) -> Done:
        self.content = without_halves(shallow(self.content))
        return Done("fixed", f"halves of characters in {len(self.odd.halves)} texts are U+FFFD now")


def list_rules(content: dict[str, Any], key: str, place: Place) -> Iterator[Finding]:
    """What is wrong with ``content[key]`` as a list of objects; fixed, what isn't an object goes.

    An empty list is wrong only where there is nothing to be labelled, or nothing to label with.
    """
    entries = content.get(key)
    if not isinstance(entries, list):
        if key in content:
            yield place.found("json-type", f"'{key}' is {json_type(entries)}; it must be a list.")
        else:
            yield place.found("json-key", f"'{key}' is missing.")
        return
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            message = f"{key}[{number}] is {json_type(entry)}; it must be an object."
            text = f"{key}[{number}] is {shown(entry)}"
            yield place.found("json-type", message, fixing(text, action="removed"))


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


def read_json_file(path: str) -> ReadJson:
    """Read a file, on disk or in a zip, as JSON; nothing is raised, whatever it holds."""
    read = ReadJson(Place(path))
    try:
        read.content = read_object(lambda: opened(path), read.odd)
    except UnreadableJson as problem:
        code, message = problem.args
        read.failure = read.place.found(code, message)
    return read


def read_json(path: str, advice: str = "") -> dict[str, Any]:
    """The object at the top of a file.

    Args:
        path: of the file.
        advice: what to do where it is missing, in place of what the rule says.

    Raises:
        MissingFileError: it isn't there.
        DatasetError: it can't be read, isn't JSON, or isn't an object at its top.
    """
    try:
        return read_object(lambda: open_regular(path))
    except UnreadableJson as problem:
        code, message = problem.args
        if code == "json-missing" and advice:
            raise MissingFileError(f"{os.path.abspath(path)} isn't there. {advice}") from problem
        raise_errors([Place(path).found(code, message)])
        raise  # it is an error
