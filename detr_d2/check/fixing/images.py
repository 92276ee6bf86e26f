"""Mending ``images``: one entry for each file, one id for each entry, and which labels belong to which."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ..faults import shown
from ..paths import escape_of
from ..values import is_id, numbered
from .changes import Change, mended, removed
from .names import FileFinder
from .values import as_whole, same, shallow

#: What ``images`` has for an id.
ImageId = int | str


class MendedImages:
    """Pictures of the copy.

    Args:
        entries: of ``images``; None for what isn't an object.
        file: their JSON.
        finder: of the pictures.
        stems: names without ending of the PNGs that belong to an id, of a panoptic file: they tell which picture of
            several with one id is meant.
    """

    def __init__(self, entries: list[Any], file: str, finder: FileFinder, stems: dict[ImageId, str]) -> None:
        self._file = file
        self._finder = finder
        self.entries: dict[ImageId, dict[str, Any]] = {}
        self._ids: dict[ImageId, ImageId] = {}
        self._gone: set[ImageId] = set()
        self._guessed: set[ImageId] = set()
        self.changes: list[Change] = []
        groups: dict[ImageId, list[dict[str, Any]]] = {}
        for number, original in numbered(entries):
            entry = self._with_id(original, f"images[{number}]")
            if entry is not None:
                groups.setdefault(entry["id"], []).append(entry)
        for image_id, group in groups.items():
            chosen = self._chosen(image_id, group, stems.get(image_id))
            chosen = self._with_name(chosen) if chosen is not None else None
            if chosen is not None:
                self.entries[image_id] = chosen
        self._merge_same_files()

    def id_of(self, value: Any) -> ImageId | None:
        """The id in the copy of what a label has for its picture; None: there is none, or it has been left out."""
        for candidate in _readings(value):
            image_id = self._ids.get(candidate, candidate)
            if image_id in self.entries:
                return image_id
        return None

    def was_left_out(self, value: Any) -> bool:
        """Whether the picture of a label was there, and is left out for a fault of its own."""
        return any(candidate in self._gone for candidate in _readings(value))

    def _with_id(self, original: dict[str, Any], place: str) -> dict[str, Any] | None:
        entry, image_id = shallow(original), original.get("id")
        if not is_id(image_id):
            whole = as_whole(image_id)
            if whole is None:
                self.changes.append(removed("id-type", self._file, f"{place} has id={shown(image_id)}"))
                return None
            self.changes.append(mended("id-type", self._file, f"{place}: id {shown(image_id)} is {whole} now", whole))
            entry["id"] = whole
        return entry

    def _with_name(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        image_id, name = entry["id"], entry.get("file_name")
        meant = self._finder.meant(name)
        if meant is None:
            code = "json-key"
            if isinstance(name, str) and name:
                code = "path-escape" if escape_of(name) else "picture-missing"
            done = f"file_name={shown(name)} isn't there"
            self.changes.append(removed(code, self._file, f"{done}; its labels are left out, too", image_id))
            self._gone.add(image_id)
            return None
        entry["file_name"], code = meant
        if code:
            self._guessed.add(image_id)
            done = f"file_name {shown(name)} is {shown(meant[0])} now"
            self.changes.append(mended(code, self._file, done, image_id))
        return entry

    def _chosen(self, image_id: ImageId, group: list[dict[str, Any]], stem: str | None) -> dict[str, Any] | None:
        """The one entry of an id; None where labels could be of any of several pictures."""
        names = {shown(entry.get("file_name")) for entry in group}
        if len(names) > 1:
            of_stem = [entry for entry in group if os.path.splitext(str(entry.get("file_name")))[0] == stem]
            if len(of_stem) != 1:
                listed = ", ".join(shown(entry.get("file_name")) for entry in group[:4])
                done = f"{listed} have this id: nobody knows whose its labels are; all are left out"
                self.changes.append(removed("id-duplicate", self._file, done, image_id))
                self._gone.add(image_id)
                return None
            done = f"the labels of this id are those of {shown(of_stem[0]['file_name'])}; other pictures are left out"
            self.changes.append(removed("id-duplicate", self._file, done, image_id))
            return of_stem[0]
        if len(group) > 1:
            done = f"{shown(group[0].get('file_name'))} was listed {len(group)} times"
            self.changes.append(mended("id-duplicate", self._file, done, image_id))
        return group[0]

    def _merge_same_files(self) -> None:
        """Entries of one file become the first of them; a name that had to be guessed isn't another's."""
        first: dict[str, ImageId] = {}
        for image_id, entry in sorted(self.entries.items(), key=lambda item: item[0] in self._guessed):
            kept = first.setdefault(os.path.normpath(entry["file_name"]), image_id)
            if kept == image_id:
                continue
            del self.entries[image_id]
            name = shown(entry["file_name"])
            sizes = [(each.get("width"), each.get("height")) for each in (entry, self.entries[kept])]
            if image_id not in self._guessed and same(*sizes):
                self._ids[image_id] = kept
                done = f"{name} is image id {shown(kept)} too; the labels of both are together now"
                self.changes.append(mended("path-duplicate", self._file, done, image_id))
            else:
                self._gone.add(image_id)
                done = f"{name} is image id {shown(kept)} too, otherwise; left out with its labels"
                self.changes.append(removed("path-duplicate", self._file, done, image_id))


def _readings(value: Any) -> Iterator[ImageId]:
    """What an image id may mean: itself first."""
    if is_id(value):
        yield value
    whole = as_whole(value) if not isinstance(value, bool) else None
    if whole is not None:
        yield whole
        yield str(whole)
