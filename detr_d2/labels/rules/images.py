"""Rules of a file's ``images``: one id, one file and one size for each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..values import as_whole, is_id, same, shown, size_problem
from .boxes import Size
from .names import FileNames
from .rule import Done, Finding, Fix, Place, fixing, setting

#: What ``images`` has for an id.
ImageId = int | str
Entry = dict[str, Any]


@dataclass(frozen=True)
class ListedImage:
    """An image as the JSON has it.

    Args:
        image_id: its id.
        width, height: in pixels; 0 and 0 where the JSON doesn't say them rightly.
        path: of its file; None where that isn't known.
    """

    image_id: ImageId
    width: int
    height: int
    path: str | None

    @property
    def size(self) -> Size:
        """width, height"""
        return self.width, self.height


@dataclass(frozen=True)
class ImageTask:
    """All that is needed to look at one image, in whatever process.

    Args:
        listed: the image.
        file: its JSON.
        labels: annotations of COCO instances, or segments of a panoptic JSON.
        is_panoptic: the labels are segments.
        png: path of its PNG; None where that isn't known.
        entry: of ``images``, whose size is fixed, and with it what is labelled; None: nothing is.
        count: labels that there were.
        may_lose_labels: the image stays even where all its labels are wrong.
    """

    listed: ListedImage
    file: str
    labels: list[Entry]
    is_panoptic: bool = False
    png: str | None = None
    entry: Entry | None = None
    count: int = 0
    may_lose_labels: bool = False


def size_rules(entry: dict[str, Any], place: Place, known: Size | None = None) -> Iterator[Finding]:
    """Findings about ``width`` and ``height``.

    Args:
        entry: of ``images``.
        place: of the entry.
        known: the size of the image's file, or of the masks on it; for the fix.
    """
    problem = size_problem(entry)
    if problem:
        yield place.found(*problem, resizing(entry, known) if known else None)


def resizing(entry_: dict[str, Any], size: Size, why: str = "") -> Fix:
    """A fix that gives an entry of ``images`` a width and a height."""
    text = f"width and height are {size[0]} and {size[1]} now{why}"
    return fixing(text, lambda: entry_.update(width=size[0], height=size[1]))


class Images:
    """The images of a file, looked at one after another.

    Args:
        file: their JSON.
        names: looks for their files.
        stems: names without ending of the PNGs that belong to an id, of a panoptic file: they say which image of
            several with one id is meant.
    """

    def __init__(self, file: str, names: FileNames, stems: Mapping[ImageId, str] | None = None) -> None:
        self._file, self._names, self._stems = file, names, stems or {}
        self.entries: dict[ImageId, dict[str, Any]] = {}
        self._merged: dict[ImageId, ImageId] = {}
        self._gone: set[ImageId] = set()

    def rules(self, entry: dict[str, Any], number: int) -> Iterator[Finding]:
        """Findings about the id and the name of one entry."""
        place = Place(self._file, text=f"images[{number}]")
        yield from self.id_rules(entry, place)
        if is_id(entry.get("id")) and entry["id"] not in self.entries:
            place = place._replace(image_id=entry["id"])
            yield from self._names.rules(entry, place, lambda other: self._merging(entry, other))

    def id_rules(self, entry: dict[str, Any], place: Place) -> Iterator[Finding]:
        """Findings about the id of one entry."""
        if not is_id(entry.get("id")):
            whole = as_whole(entry.get("id"))
            fix = setting(entry, "id", whole) if whole is not None else None
            yield place._replace(image_id=whole).found("id-type", f"has id={shown(entry.get('id'))}.", fix)
        if is_id(entry.get("id")) and (entry["id"] in self.entries or entry["id"] in self._gone):
            place = place._replace(image_id=entry["id"])
            yield place.found("id-duplicate", "has the id of an earlier image.", self._choosing(entry))

    def add(self, entry: dict[str, Any]) -> bool:
        """Keep an entry that has been looked at; False where its id can't be used."""
        if not is_id(entry.get("id")) or entry["id"] in self.entries:
            return False
        self.entries[entry["id"]] = entry
        return True

    @property
    def merged_into(self) -> Set[ImageId]:
        """The images that other entries became one with."""
        return set(self._merged.values())

    def leave_out(self, image_id: Any) -> None:
        """Labels of this id are of an image that is left out."""
        if is_id(image_id) and image_id not in self.entries and image_id not in self._merged:
            self._gone.add(image_id)

    def id_of(self, value: Any) -> ImageId | None:
        """The id to be written for what a label has for its image; None: there is none, or it has been left out."""
        for candidate in _readings(value):
            image_id = self._merged.get(candidate, candidate)
            if image_id in self.entries:
                return image_id
        return None

    def was_left_out(self, value: Any) -> bool:
        """Whether the image of a label was there, and is left out for a fault of its own."""
        return any(candidate in self._gone for candidate in _readings(value))

    def is_listed(self, value: Any) -> bool:
        """Whether a label's image is there by just this id."""
        return is_id(value) and (value in self.entries or value in self._merged)

    def _choosing(self, entry: dict[str, Any]) -> Fix:
        """Of several entries with one id the one that a PNG is named like; else nobody knows whose the labels are."""

        def apply() -> Done:
            image_id, name = entry["id"], entry.get("file_name")
            earlier = self.entries.get(image_id)
            stem = self._stems.get(image_id)
            if earlier is not None and earlier.get("file_name") == name:
                return Done("fixed", f"{shown(name)} was listed before", is_gone=True)
            if earlier is not None and _stem_of(earlier) == stem:
                name = earlier["file_name"]
                return Done("removed", f"the labels of this id are those of {shown(name)}", is_gone=True)
            self.entries.pop(image_id, None)
            if _stem_of(entry) == stem:
                self._gone.discard(image_id)
                return Done("removed", f"the labels of this id are those of {shown(name)}; other images are left out")
            self._gone.add(image_id)
            return Done("removed", "nobody knows whose the labels of this id are; all are left out", is_gone=True)

        return apply

    def _merging(self, entry: dict[str, Any], other: Any) -> Fix:
        """An entry of the same file as that of another id becomes one with it, if both say the same of it."""
        text, earlier = f"{shown(entry['file_name'])} is image id {shown(other)} too", self.entries.get(other, {})
        sizes = [(each.get("width"), each.get("height")) for each in (entry, earlier)]
        if earlier and same(*sizes):
            merge = partial(self._merged.__setitem__, entry["id"], other)
            return fixing(f"{text}; the labels of both are together now", merge, is_gone=True)
        return fixing(f"{text}, otherwise; left out with its labels", action="removed", is_gone=True)


def _stem_of(entry: dict[str, Any]) -> str:
    return os.path.splitext(str(entry.get("file_name")))[0]


def _readings(value: Any) -> Iterator[ImageId]:
    """What an image id may mean: itself first."""
    if is_id(value):
        yield value
    whole = as_whole(value) if not isinstance(value, bool) else None
    if whole is not None:
        yield whole
        yield str(whole)
