"""JSON files of unknown origin: read as far as they can be, with all that is wrong with them as findings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from detr_d2.errors import MissingFileError
from detr_d2.files import open_regular

from ..file_places import opened
from ..json_reading import Oddities, UnreadableJson, json_type, read_object, without_halves
from ..panoptic_png import MAX_SEGMENT_ID
from ..values import shallow, shown
from .rule import FILES, IDS, Done, Finding, Fix, Place, raise_errors

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
    "shape-undrawn", "nothing to do, or draw it as a polygon or mask: it covers no pixels, and is left out", "as above"
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

_UNREADABLE = {rule.code: rule for rule in (JSON_MISSING, JSON_BROKEN, JSON_LARGE, JSON_TYPE)}


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
            yield self.place.found(JSON_REPEATED, f"{text}.", self._keep_last(key, text))
        if len(self.odd.repeated) > _MOST_KEYS:
            message = f"so have {len(self.odd.repeated) - _MOST_KEYS} other keys."
            yield self.place.found(JSON_REPEATED, message, lambda: Done("fixed", "so are other keys"))
        if self.odd.halves.texts:
            examples = ", ".join(self.odd.halves.places)
            text = "a text has" if self.odd.halves.texts == 1 else f"{self.odd.halves.texts} texts have"
            message = f"{text} half of a character (a lone surrogate): {examples}."
            yield self.place.found(JSON_TEXT, message, self._replace_halves)

    def constant_rules(self) -> Iterator[Finding]:
        """NaN or Infinity somewhere in the file."""
        if self.odd.constants:
            text = f"NaN or Infinity stands there {self.odd.constants} times"
            fix = lambda: Done("fixed", f"{text}: null now, where nothing better is known")  # noqa: E731
            yield self.place.found(JSON_NUMBER, f"{text}.", fix)

    def _keep_last(self, key: str, text: str) -> Fix | None:
        """A list of labels of which others are lost can't be fixed."""
        if any(name in self.odd.repeated for name in (*PARTS, "segments_info")):
            return None
        return lambda: Done("fixed", f"{text}; the last value is kept")

    def _replace_halves(self) -> Done:
        self.content = without_halves(shallow(self.content))
        return Done("fixed", f"halves of characters in {self.odd.halves.texts} texts are U+FFFD now")


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


def read_json_file(path: str) -> ReadJson:
    """Read a file, on disk or in a zip, as JSON; nothing is raised, whatever it holds."""
    read = ReadJson(Place(path))
    try:
        read.content = read_object(lambda: opened(path), read.odd)
    except UnreadableJson as problem:
        code, message = problem.args
        read.failure = read.place.found(_UNREADABLE[code], message)
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
        if code == JSON_MISSING.code and advice:
            raise MissingFileError(f"{os.path.abspath(path)} isn't there. {advice}") from problem
        raise_errors([Place(path).found(_UNREADABLE[code], message)])
        raise  # it is an error


ID_TYPE = IDS.error(
    "id-type",
    "give a whole number",
    '`7.0` and `"7"` become 7; labels get a new id; a segment gets that of the pixels with just its box and area; '
    "else left out",
)
ID_DUPLICATE = IDS.error(
    "id-duplicate",
    "renumber; each id may come once",
    "repetitions go; annotations get new ids; images or categories with one id, and their labels, are left out, "
    "unless a PNG's name says which is meant",
)
ID_RANGE = IDS.error(
    "id-range",
    f"renumber with ids from 1 to {MAX_SEGMENT_ID}; 0 is void",
    "the id of the pixels with just its box and area; else left out",
)
IMAGE_UNKNOWN = IDS.error("image-unknown", "remove the entry, or add its image to images", "left out")
ID_SHARED = IDS.warning(
    "id-shared", "renumber when you merge them; each export counts from 1", "stays; `detr-d2 prepare` renumbers"
)
