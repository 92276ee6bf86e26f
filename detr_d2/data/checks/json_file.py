"""Reading a JSON file of unknown origin: all that can be wrong with it becomes a fault."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

from ...errors import DatasetError
from ..json_reading import json_type
from ..memory import memory_free
from .faults import Fault, fault
from .places import opened


@dataclass(frozen=True)
class ReadJson:
    """What a file held.

    Args:
        content: the object at its top, or None where there is none.
        faults: why there is none.
        constants: how often NaN or Infinity stands in it.
    """

    content: dict[str, Any] | None
    faults: tuple[Fault, ...] = ()
    constants: int = 0


def read_json_file(path: str) -> ReadJson:
    """Read a file as JSON; nothing is raised, whatever it holds."""
    needed, free = memory_needed(path), memory_free()
    if needed > free:
        sizes = f"{needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        return _failed("json-large", path, f"would take about {sizes}.")
    constants = [0]

    def constant(name: str) -> float:
        constants[0] += 1
        return float(name.replace("Infinity", "inf"))

    try:
        with io.TextIOWrapper(opened(path), encoding="utf-8-sig") as file:
            content = json.load(file, parse_constant=constant)
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
    return ReadJson(content, constants=constants[0])


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
