"""Rules of a file's ``images``: one id, one size and one file for each, and of the file names that a JSON gives."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeGuard

from ..archives import IMAGE_SUFFIXES, NOT_THERE, is_file, is_folder, names_in, way_out, why_no_file
from ..records import FileRef
from ..values import Size, as_whole, is_id, same, shown, size_problem
from .rule import Done, Finding, Fix, Place, fixing, setting

#: What ``images`` has for an id.
ImageId = int | str
Entry = dict[str, Any]

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class ListedImage(NamedTuple):
    """An image as the JSON has it; ``path`` is None where it isn't known, ``size`` 0 and 0 where the JSON is wrong."""

    image_id: ImageId
    path: str | None
    size: Size = (0, 0)


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


def escape_of(name: str) -> str | None:
    """Why a file name may not be used below a folder, or None."""
    if reason := "is absolute" if name.startswith("~") else way_out(name):
        return reason
    if "\\" in name:
        return "has a backslash, which only Windows takes for a folder"
    return "has characters that aren't text" if _CONTROL.search(name) else None


def is_allowed(name: Any) -> TypeGuard[str]:
    """Whether it can be the name of a file below a folder."""
    return isinstance(name, str) and bool(name) and escape_of(name) is None


class FileNames:
    """The file names of one kind in one JSON, looked at one after another.

    Args:
        folder: that the names start at; None, or one that isn't there: not known, and nothing is looked for.
        missing: code of the rule that a file that isn't there breaks.
        named: all names that the JSON gives, none of which is put in place of a wrong one.
        find: finds files by allowed names, wherever they are; ``folder`` isn't used then.
    """

    def __init__(
        self,
        folder: str | None,
        missing: str,
        named: Iterable[Any] = (),
        find: Callable[[str], FileRef | None] | None = None,
    ) -> None:
        self.folder = folder if folder and is_folder(folder) else None
        self._missing, self._find = missing, find
        self._claimed = {os.path.normpath(name) for name in named if is_allowed(name)}
        self._found: dict[str, FileRef | None] = {}
        self._first_of_name: dict[str, Any] = {}
        self._first_of_folded: dict[str, Any] = {}
        self._first_of_base: dict[str, Any] = {}
        self._has_named_base = False
        self._listings: dict[str, dict[str, str]] = {}

    def file(self, name: str) -> FileRef | None:
        """What ``find`` finds by a name that is allowed."""
        if name not in self._found:
            self._found[name] = self._find(name) if self._find else None
        return self._found[name]

    def path(self, name: Any) -> str | None:
        """Where the file is; None for names that aren't allowed, and where the folder isn't known."""
        if not is_allowed(name):
            return None
        if self._find:
            return str(found) if (found := self.file(name)) else None
        return None if self.folder is None else os.path.join(self.folder, *name.split("/"))

    def rules(self, entry: Entry, place: Place, merge: Callable[[Any], Fix] | None = None) -> Iterator[Finding]:
        """Findings about ``file_name``; ``merge`` makes what fixes an entry of the file of an earlier image id."""
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            yield place.found("json-key", f"has file_name={shown(name)}.")
            return
        reason = escape_of(name)
        if reason:
            message = f"has file_name={shown(name)}, which {reason}."
            yield place.found("path-escape", message, self._renaming(entry, self._below(name)))
            if entry["file_name"] is name:
                return
            name = entry["file_name"]
        yield from self._collisions(name, place, merge)
        if self._missing == "image-missing" and os.path.splitext(name)[1].lower() not in IMAGE_SUFFIXES:
            yield place.found("image-suffix", f"has file_name={shown(name)}, which isn't called as images are.")
        yield from self._absence(entry, name, place)

    def _absence(self, entry: Entry, name: str, place: Place) -> Iterator[Finding]:
        """A file that can't be read, though its folder is known."""
        path = self.path(name)
        if self._find:
            if path is None:
                yield Place(place.file, place.image_id).found(self._missing, f"{name[:200]} isn't in the export.")
        elif path is not None and (why := why_no_file(path)):
            other = self._spelled(name) if why == NOT_THERE else None
            near = f"; {shown(os.path.basename(other))} is" if other else ""
            yield Place(path, place.image_id).found(self._missing, f"{why}{near}.", self._renaming(entry, other))

    def _collisions(self, name: str, place: Place, merge: Callable[[Any], Fix] | None) -> Iterator[Finding]:
        plain = os.path.normpath(name)
        other = self._first_of_name.setdefault(plain, place.image_id)
        if other is not place.image_id:
            fix = merge(other) if merge is not None else None
            yield place.found("path-duplicate", f"has {shown(name)}, the file of image id {shown(other)} too.", fix)
            return
        same = self._first_of_folded.setdefault(plain.casefold(), plain)
        first = self._first_of_base.setdefault(os.path.basename(plain).casefold(), plain)
        if same != plain:
            yield place.found("path-collision", f"has {shown(name)} beside {shown(same)}.")
        elif first != plain and not self._has_named_base:
            self._has_named_base = True  # names in folders of their own are well here; once is enough
            message = f"has {shown(name)} beside {shown(first)}, the first such pair in this file."
            yield place.found("path-collision", message)

    def _renaming(self, entry: Entry, name: str | None) -> Fix | None:
        """What gives an entry the name that was meant, if no other entry has it."""
        if name is None or os.path.normpath(name) in self._claimed:
            return None
        self._claimed.add(os.path.normpath(name))
        return setting(entry, "file_name", name)

    def _below(self, name: str) -> str | None:
        """The file of a name that leads elsewhere, with as many of its folders as fit; None where there is none."""
        parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..") and not part.endswith(":")]
        for first in range(len(parts)):
            part = "/".join(parts[first:])
            path = self.path(part)
            if path is not None and (self._find or is_file(path)):
                return part
            found = self._spelled(part) if path is not None else None
            if found is not None:
                return found
        is_unknown = self.folder is None and not self._find
        return parts[-1] if is_unknown and parts and is_allowed(parts[-1]) else None

    def _spelled(self, name: str) -> str | None:
        """A file in the folder of the same name in other letters, or None."""
        folder, base = os.path.split(self.path(name) or "")
        if folder not in self._listings:
            try:
                self._listings[folder] = {each.casefold(): each for each in names_in(folder)}
            except OSError:
                self._listings[folder] = {}
        other = self._listings[folder].get(base.casefold())
        if other is None or not is_file(os.path.join(folder, other)):
            return None
        return "/".join([*name.split("/")[:-1], other])


def size_rules(entry: dict[str, Any], place: Place, known: Size | None = None) -> Iterator[Finding]:
    """Findings about ``width`` and ``height``; ``known``, the size of the file, or of masks on it, is for the fix."""
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
        stems: of a panoptic file, names without ending of the PNGs, by id: they say which image of several is meant.
    """

    def __init__(self, file: str, names: FileNames, stems: Mapping[ImageId, str] | None = None) -> None:
        self._file, self._names, self._stems = file, names, stems or {}
        self.entries: dict[ImageId, dict[str, Any]] = {}
        #: Ids of entries that became one with that of another id.
        self.merged: dict[ImageId, ImageId] = {}
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
            yield place.found("id-duplicate", "has the id of an earlier image.", partial(self._choose, entry))

    def add(self, entry: dict[str, Any]) -> bool:
        """Keep an entry that has been looked at; False where its id can't be used."""
        if not is_id(entry.get("id")) or entry["id"] in self.entries:
            return False
        self.entries[entry["id"]] = entry
        return True

    def leave_out(self, image_id: Any) -> None:
        """Labels of this id are of an image that is left out."""
        if is_id(image_id) and image_id not in self.entries and image_id not in self.merged:
            self._gone.add(image_id)

    def id_of(self, value: Any) -> ImageId | None:
        """The id to be written for what a label has for its image; None: there is none, or it has been left out."""
        for candidate in _readings(value):
            image_id = self.merged.get(candidate, candidate)
            if image_id in self.entries:
                return image_id
        return None

    def was_left_out(self, value: Any) -> bool:
        """Whether the image of a label was there, and is left out for a fault of its own."""
        return any(candidate in self._gone for candidate in _readings(value))

    def is_listed(self, value: Any) -> bool:
        """Whether a label's image is there by just this id."""
        return is_id(value) and (value in self.entries or value in self.merged)

    def _choose(self, entry: Entry) -> Done:
        """Of several entries with one id the one that a PNG is named like; else nobody knows whose the labels are."""
        image_id, name = entry["id"], entry.get("file_name")
        earlier, stem = self.entries.get(image_id), self._stems.get(image_id)
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

    def _merging(self, entry: dict[str, Any], other: Any) -> Fix:
        """An entry of the same file as that of another id becomes one with it, if both say the same of it."""
        text, earlier = f"{shown(entry['file_name'])} is image id {shown(other)} too", self.entries.get(other, {})
        sizes = [(each.get("width"), each.get("height")) for each in (entry, earlier)]
        if earlier and same(*sizes):
            merge = partial(self.merged.__setitem__, entry["id"], other)
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
