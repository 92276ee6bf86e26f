"""Rules of the file names that a JSON gives: escapes, collisions, files that aren't there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeGuard

from ..archives import IMAGE_SUFFIXES, NOT_THERE, is_file, is_folder, names_in, why_no_file
from ..values import shown
from .rule import Finding, Fix, Place, setting

_DRIVE_OR_ADDRESS = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def escape_of(name: str) -> str | None:
    """Why a file name may not be used below a folder, or None."""
    parts = re.split(r"[/\\]", name)
    if name[:1] in ("/", "\\", "~") or _DRIVE_OR_ADDRESS.match(name):
        return "is absolute"
    if ".." in parts:
        return "leads out of its folder"
    if "\\" in name:
        return "has a backslash, which only Windows takes for a folder"
    if _CONTROL.search(name):
        return "has characters that aren't text"
    return None


def is_allowed(name: Any) -> TypeGuard[str]:
    """Whether it can be the name of a file below a folder."""
    return isinstance(name, str) and bool(name) and escape_of(name) is None


class Absence(NamedTuple):
    """That a file can't be read.

    Args:
        why: a sentence's end.
        spelled: the name of a file in other letters.
        path: where it should be; empty: not known.
    """

    why: str
    spelled: str | None = None
    path: str = ""


class FileNames:
    """The file names of one kind in one JSON, looked at one after another.

    Args:
        folder: that the names start at; None, or one that isn't there: not known, and nothing is looked for.
        missing: rule that a file that isn't there breaks.
        named: all names that the JSON gives, none of which is put in place of a wrong one.
    """

    def __init__(self, folder: str | None, missing: str, named: Iterable[Any] = ()) -> None:
        self.folder = folder if folder and is_folder(folder) else None
        self._missing = missing
        self._claimed = {os.path.normpath(name) for name in named if is_allowed(name)}
        self._first_of_name: dict[str, Any] = {}
        self._first_of_folded: dict[str, Any] = {}
        self._first_of_base: dict[str, Any] = {}
        self._has_named_base = False
        self._listings: dict[str, dict[str, str]] = {}

    def rules(
        self, entry: dict[str, Any], place: Place, merge: Callable[[Any], Fix] | None = None
    ) -> Iterator[Finding]:
        """Findings about ``file_name``.

        Args:
            entry: of an image, or of a PNG.
            place: of the entry.
            merge: makes what fixes an entry of the same file as that of an earlier image id.
        """
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
        absence = self.absence(name)
        if absence is not None:
            at = Place(absence.path or place.file, place.image_id)
            yield at.found(self._missing, absence.why, self._renaming(entry, absence.spelled))

    def absence(self, name: str) -> Absence | None:
        """Why the file of a name that is allowed can't be read; None where it can, or the folder isn't known."""
        path = self.path(name)
        why = why_no_file(path) if path is not None else None
        if path is None or why is None:
            return None
        other = self._spelled(name) if why == NOT_THERE else None
        near = f"; {shown(os.path.basename(other))} is" if other else ""
        return Absence(f"{why}{near}.", other, path)

    def meant(self, name: str, is_last: bool) -> str | None:
        """The name of the file that a part of a wrong name stands for; ``is_last``: no shorter part is left."""
        path = self.path(name)
        if path is None:
            return name if is_last and is_allowed(name) else None  # the folder isn't known
        return name if is_file(path) else self._spelled(name)

    def path(self, name: Any) -> str | None:
        """Where the file is; None for names that aren't allowed, and where the folder isn't known."""
        if self.folder is None or not is_allowed(name):
            return None
        return os.path.join(self.folder, *name.split("/"))

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

    def _renaming(self, entry: dict[str, Any], name: str | None) -> Fix | None:
        """What gives an entry the name that was meant, if no other entry has it."""
        if name is None or os.path.normpath(name) in self._claimed:
            return None
        self._claimed.add(os.path.normpath(name))
        return setting(entry, "file_name", name)

    def _below(self, name: str) -> str | None:
        """The file of a name that leads elsewhere, with as many of its folders as fit; None where there is none."""
        parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..") and not part.endswith(":")]
        for first in range(len(parts)):
            found = self.meant("/".join(parts[first:]), first == len(parts) - 1)
            if found is not None:
                return found
        return None

    def _spelled(self, name: str) -> str | None:
        """A file of the same name in other letters, or None."""
        path = self.path(name)
        if path is None:
            return None
        folder, base = os.path.split(path)
        if folder not in self._listings:
            try:
                self._listings[folder] = {each.casefold(): each for each in names_in(folder)}
            except OSError:
                self._listings[folder] = {}
        other = self._listings[folder].get(base.casefold())
        if other is None or not is_file(os.path.join(folder, other)):
            return None
        return "/".join([*name.split("/")[:-1], other])
