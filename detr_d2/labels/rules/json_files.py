"""JSON files of unknown origin: read as far as they can be, with all that is wrong with them as findings."""

from __future__ import annotations

import gc
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from detr_d2.errors import DatasetError

from ..file_places import opened
from ..json_reading import json_type
from ..memory import memory_free
from ..values import shallow, shown
from .json_text import NONE, Halves, find_halves, without_halves
from .rule import FILES, Done, Finding, Fix, Place, Rule, raise_errors

#: Lists of objects that a COCO file has.
PARTS = ("images", "annotations", "categories")
#: Keys that stand twice are named one by one, up to so many.
_MOST_KEYS = 20

JSON_MISSING = FILES.error("json-missing", "correct the path, or restore the file", "the file is left out")
JSON_BROKEN = FILES.error("json-broken", "export the file again, or restore it", "the file is left out")
JSON_LARGE = FILES.error(
    "json-large", "split it by images, or check it on a machine with more memory", "the file is left out"
)
JSON_TYPE = FILES.error(
    "json-type",
    "write what the format asks for; another program's file needs converting first",
    "what isn't an object is left out; the file, where a list is missing",
)
JSON_KEY = FILES.error(
    "json-key",
    "add the key; COCO files have images, annotations and categories",
    "the size is the image's or the mask's; else the image, or the file, is left out",
    needs_pixels=True,
)
JSON_EMPTY = FILES.error(
    "json-empty",
    "export the file again, with images and labels; there is nothing to learn from it",
    "nothing is written",
)
JSON_REPEATED = FILES.error(
    "json-repeated",
    "keep one of them: programs read the last one, and what the others hold is lost",
    "the last value; where it is a list of images, labels or categories, the file is left out",
)
JSON_TEXT = FILES.error(
    "json-text",
    "write whole characters; nothing can be named so, and other programs stop at it",
    "U+FFFD, the replacement character",
)
JSON_NUMBER = FILES.error(
    "json-number",
    "replace NaN and Infinity, which JSON doesn't have, by numbers",
    "`null` where nothing better is known",
)
FOLDER_MISSING = FILES.error("folder-missing", "correct the path, or fetch the files", "the file is left out")
EXPORT_BROKEN = FILES.error(
    "export-broken",
    "make it readable, or export it again as 'CVAT for images 1.1', 'COCO 1.0' or 'Segmentation mask 1.1'",
    "exports that aren't COCO's have no `--fix`; `detr-d2 prepare` reads them",
)
SHAPE_UNDRAWN = FILES.warning(
    "shape-undrawn",
    "nothing to do, or draw it as a polygon or mask: it covers no pixels, and is left out",
    "as above",
)
OBJECTS_MISSING = FILES.warning(
    "objects-missing",
    "export it with objects (SegmentationObject), or all of a class in an image is one object",
    "as above",
)
JSON_OTHER = FILES.warning("json-other", "nothing to do if this file isn't part of the dataset", "left out")
FOLDER_UNKNOWN = FILES.warning(
    "folder-unknown", "name the folder with --images, or --panoptic, so that its images are checked too", "stays"
)


@dataclass
class ReadJson:
    """What a file held.

    Args:
        place: the file.
        content: the object at its top, or None where there is none.
        failure: why there is none.
        constants: how often NaN or Infinity stands in it.
        repeated: keys that stand more than once in an object, with the number of such objects; the last value counts.
        halves: halves of characters in its texts.
    """

    place: Place
    content: dict[str, Any] | None = None
    failure: Finding | None = None
    constants: int = 0
    repeated: dict[str, int] = field(default_factory=dict)
    halves: Halves = NONE

    def rules(self) -> Iterator[Finding]:
        """What is wrong with the text: nothing to read, keys that stand twice, halves of characters."""
        if self.failure is not None:
            yield self.failure
            return
        for key, count in list(self.repeated.items())[:_MOST_KEYS]:
            where = "an object has" if count == 1 else f"{count} objects have"
            text = f"{where} the key {shown(key)} more than once"
            yield self.place.found(JSON_REPEATED, f"{text}.", self._keep_last(key, text))
        if len(self.repeated) > _MOST_KEYS:
            message = f"so have {len(self.repeated) - _MOST_KEYS} other keys."
            yield self.place.found(JSON_REPEATED, message, lambda: Done("fixed", "so are other keys"))
        if self.halves.texts:
            examples = ", ".join(self.halves.places)
            text = "a text has" if self.halves.texts == 1 else f"{self.halves.texts} texts have"
            message = f"{text} half of a character (a lone surrogate): {examples}."
            yield self.place.found(JSON_TEXT, message, self._replace_halves)

    def constant_rules(self) -> Iterator[Finding]:
        """NaN or Infinity somewhere in the file."""
        if self.constants:
            text = f"NaN or Infinity stands there {self.constants} times"
            fix = lambda: Done("fixed", f"{text}: null now, where nothing better is known")  # noqa: E731
            yield self.place.found(JSON_NUMBER, f"{text}.", fix)

    def _keep_last(self, key: str, text: str) -> Fix | None:
        """A list of labels of which others are lost can't be fixed."""
        if any(name in self.repeated for name in (*PARTS, "segments_info")):
            return None
        return lambda: Done("fixed", f"{text}; the last value is kept")

    def _replace_halves(self) -> Done:
        self.content = without_halves(shallow(self.content))
        return Done("fixed", f"halves of characters in {self.halves.texts} texts are U+FFFD now")


def list_rules(content: dict[str, Any], key: str, place: Place) -> Iterator[Finding]:
    """What is wrong with ``content[key]`` as a list of objects; fixed, what isn't an object goes.

    An empty list is wrong only where there is nothing to be labelled, or nothing to label with.
    """
    entries = content.get(key)
    if not isinstance(entries, list):
        if key in content:
            yield place.found(JSON_TYPE, f"'{key}' is {json_type(entries)}; it must be a list.")
        else:
            yield place.found(JSON_KEY, f"'{key}' is missing.")
        return
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            message = f"{key}[{number}] is {json_type(entry)}; it must be an object."
            text = f"{key}[{number}] is {shown(entry)}"
            yield place.found(JSON_TYPE, message, partial(Done, "removed", text))


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


class _Observed:
    """What a parser notes while it reads: constants, and keys that repeat."""

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
    place = Place(path)
    needed, free = memory_needed(path), memory_free()
    if needed > free:
        sizes = f"{needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        return _failed(JSON_LARGE, place, f"would take about {sizes}.")
    observed = _Observed()
    try:
        with io.TextIOWrapper(opened(path), encoding="utf-8-sig") as file:
            text = file.read()
        with _without_collector():
            content = json.loads(text, parse_constant=observed.constant, object_pairs_hook=observed.pairs)
        halves = find_halves(text, content)
    except (FileNotFoundError, NotADirectoryError):
        return _failed(JSON_MISSING, place, "the file isn't there.")
    except OSError as error:
        return _failed(JSON_BROKEN, place, f"can't be read: {error.strerror or error}.")
    except DatasetError as error:
        return _failed(JSON_BROKEN, place, str(error))
    except UnicodeDecodeError as error:
        return _failed(JSON_BROKEN, place, f"isn't text in UTF-8 (byte {error.start}).")
    except RecursionError:
        return _failed(JSON_BROKEN, place, "is nested too deeply.")
    except MemoryError:
        return _failed(JSON_BROKEN, place, "doesn't fit into memory.")
    except ValueError as error:
        return _failed(JSON_BROKEN, place, f"isn't JSON: {error}.")
    if not isinstance(content, dict):
        return _failed(JSON_TYPE, place, f"has {json_type(content)} at its top; COCO files have an object.")
    return ReadJson(place, content, None, observed.constants, observed.repeated, halves)


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


def _failed(rule: Rule, place: Place, message: str) -> ReadJson:
    return ReadJson(place, failure=place.found(rule, message))
