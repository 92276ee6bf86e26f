"""Faults of the file names that a JSON gives: escapes, collisions, files that aren't there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from detr_d2.labels.file_places import NOT_THERE, why_no_file
from detr_d2.labels.image_decoding import IMAGE_SUFFIXES

from .faults import Fault, fault, shown

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


class FileNames:
    """The file names of one kind in one JSON, looked at one after another.

    Args:
        file: the JSON.
        folder: that the names start at; None: not known, and nothing is looked for.
        missing_code: kind of fault of a file that isn't there.
    """

    def __init__(self, file: str, folder: str | None, missing_code: str) -> None:
        self._file = file
        self._folder = folder
        self._missing_code = missing_code
        self._first_of_name: dict[str, Any] = {}
        self._first_of_folded: dict[str, Any] = {}
        self._first_of_base: dict[str, Any] = {}
        self._has_named_base = False
        self._listings: dict[str, dict[str, str]] = {}

    def faults(self, name: Any, image_id: Any, place: str) -> Iterator[Fault]:
        """Faults of one name."""
        if not isinstance(name, str) or not name:
            yield fault("json-key", self._file, f"{place} has file_name={shown(name)}.", image_id)
            return
        reason = escape_of(name)
        if reason:
            yield fault("path-escape", self._file, f"{place}: file_name={shown(name)} {reason}.", image_id)
            return
        yield from self._collisions(name, image_id, place)
        if self._missing_code == "picture-missing" and os.path.splitext(name)[1].lower() not in IMAGE_SUFFIXES:
            yield fault(
                "picture-suffix", self._file, f"{place}: file_name={shown(name)} isn't called as images are.", image_id
            )
        path = self.path(name)
        why = why_no_file(path) if path is not None else None
        if path is not None and why:
            near = self._near(path) if why == NOT_THERE else ""
            yield fault(self._missing_code, path, f"{why}{near}.", image_id)

    def path(self, name: Any) -> str | None:
        """Where the file is; None for names that aren't allowed, and where the folder isn't known."""
        if self._folder is None or not isinstance(name, str) or not name or escape_of(name):
            return None
        return os.path.join(self._folder, *name.split("/"))

    def _collisions(self, name: str, image_id: Any, place: str) -> Iterator[Fault]:
        plain = os.path.normpath(name)
        other = self._first_of_name.setdefault(plain, image_id)
        if other is not image_id:
            message = f"{place}: {shown(name)} is the file of image id {shown(other)} too."
            yield fault("path-duplicate", self._file, message, image_id)
            return
        same = self._first_of_folded.setdefault(plain.casefold(), plain)
        first = self._first_of_base.setdefault(os.path.basename(plain).casefold(), plain)
        if same != plain:
            yield fault("path-collision", self._file, f"{place}: {shown(name)} beside {shown(same)}.", image_id)
        elif first != plain and not self._has_named_base:
            self._has_named_base = True  # names in folders of their own are well here; once is enough
            message = f"{place}: {shown(name)} beside {shown(first)}, the first such pair in this file."
            yield fault("path-collision", self._file, message, image_id)

    def _near(self, path: str) -> str:
        """Whether there is a file of the same name in other letters, or another ending."""
        folder, base = os.path.split(path)
        if folder not in self._listings:
            try:
                self._listings[folder] = {name.casefold(): name for name in os.listdir(folder)}
            except OSError:
                self._listings[folder] = {}
        same = self._listings[folder].get(base.casefold())
        return f"; {shown(same)} is" if same else ""
