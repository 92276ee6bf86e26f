"""Reading a JSON file of unknown origin: all that can be wrong with it becomes a fault."""

from __future__ import annotations

import gc
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from detr_d2.errors import DatasetError
from detr_d2.labels.file_places import opened
from detr_d2.labels.json_reading import json_type
from detr_d2.labels.memory import memory_free

from .faults import Fault, fault, shown
from .json_text import NONE, Halves, find_halves

#: Keys that stand twice are named one by one, up to so many.
_MOST_KEYS = 20


@dataclass(frozen=True)
class ReadJson:
    """What a file held.

    Args:
        content: the object at its top, or None where there is none.
        faults: why there is none, or what is wrong with its text.
        constants: how often NaN or Infinity stands in it.
        repeated: keys that stand more than once in an object, with the number of such objects; the last value counts.
        halves: halves of characters in its texts.
    """

    content: dict[str, Any] | None
    faults: tuple[Fault, ...] = ()
    constants: int = 0
    repeated: dict[str, int] = field(default_factory=dict)
    halves: Halves = NONE


class _Observed:
    """What a parser tells while it reads: constants, and keys that repeat."""

    def __init__(self) -> None:
        self.constants = 0
        self.repeated: dict[str, int] = {}

    def constant(self, name: str) -> float:
        self.constants += 1
        return float(name.replace("Infinity", "inf"))

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            for key in found:
                if keys.count(key) > 1:
                    self.repeated[key] = self.repeated.get(key, 0) + 1
        return found


def read_json_file(path: str) -> ReadJson:
    """Read a file as JSON; nothing is raised, whatever it holds."""
    needed, free = memory_needed(path), memory_free()
    if needed > free:
        sizes = f"{needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        return _failed("json-large", path, f"would take about {sizes}.")
    observed = _Observed()
    try:
        with io.TextIOWrapper(opened(path), encoding="utf-8-sig") as file:
            text = file.read()
        with _without_collector():
            content = json.loads(text, parse_constant=observed.constant, object_pairs_hook=observed.pairs)
        halves = find_halves(text, content)
    except (FileNotFoundError, NotADirectoryError):
        return _failed("json-missing", path, "the file isn't there.")
    except OSError as error:
        return _failed("json-broken", path, f"can't be read: {error.strerror or error}.")
    except DatasetError as error:
        return _failed("json-broken", path, str(error))
    except UnicodeDecodeError as error:
        return _failed("json-broken", path, f"isn't text in UTF-8 (byte {error.start}).")
    except RecursionError:
        return _failed("json-broken", path, "is nested too deeply.")
    except MemoryError:
        return _failed("json-broken", path, "doesn't fit into memory.")
    except ValueError as error:
        return _failed("json-broken", path, f"isn't JSON: {error}.")
    if not isinstance(content, dict):
        message = f"has {json_type(content)} at its top; COCO files have an object."
        return _failed("json-type", path, message)
    faults = (*_repetitions(observed.repeated, path), *_halves(halves, path))
    return ReadJson(content, faults, observed.constants, observed.repeated, halves)


@contextmanager
def _without_collector() -> Iterator[None]:
    """JSON makes no cycles, and looking for some among millions of values takes as long as reading them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _repetitions(repeated: dict[str, int], path: str) -> list[Fault]:
    faults = []
    for key, count in list(repeated.items())[:_MOST_KEYS]:
        where = "an object has" if count == 1 else f"{count} objects have"
        faults.append(fault("json-repeated", path, f"{where} the key {shown(key)} more than once."))
    if len(repeated) > _MOST_KEYS:
        faults.append(fault("json-repeated", path, f"so have {len(repeated) - _MOST_KEYS} other keys."))
    return faults


def _halves(halves: Halves, path: str) -> list[Fault]:
    if not halves.texts:
        return []
    examples = ", ".join(halves.places)
    text = "a text has" if halves.texts == 1 else f"{halves.texts} texts have"
    return [fault("json-text", path, f"{text} half of a character (a lone surrogate): {examples}.")]


def memory_needed(path: str) -> int:
    """Bytes that a JSON file's content takes once it is read, at most; 0 where the file can't be read.

    Each comma, bracket and brace begins a value: 8 bytes for its place and 24 to 64 for itself.
    """
    found, size = dict.fromkeys(b"{[,", 0), 0
    try:
        with opened(path) as file:
            while block := file.read(2**22):
                size += len(block)
                for character in found:
                    found[character] += block.count(character)
    except (OSError, DatasetError):
        return 0
    return 3 * size + 240 * found[ord("{")] + 80 * found[ord("[")] + 40 * found[ord(",")]


def _failed(code: str, path: str, message: str) -> ReadJson:
    return ReadJson(None, (fault(code, path, message),))
