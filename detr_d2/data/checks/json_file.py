"""Reading a JSON file of unknown origin: all that can be wrong with it becomes a fault."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..json_reading import json_type
from .faults import Fault, fault


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
    constants = [0]

    def constant(name: str) -> float:
        constants[0] += 1
        return float(name.replace("Infinity", "inf"))

    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file, parse_constant=constant)
    except (FileNotFoundError, NotADirectoryError):
        return _failed("json-missing", path, "the file isn't there.")
    except OSError as error:
        return _failed("json-broken", path, f"can't be read: {error.strerror or error}.")
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


def _failed(code: str, path: str, message: str) -> ReadJson:
    return ReadJson(None, (fault(code, path, message),))
