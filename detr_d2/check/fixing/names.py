"""Mending file names: the file that was meant, if it lies in the folder."""

from __future__ import annotations

import os
import re
from typing import Any

from detr_d2.labels.file_places import is_file, is_folder, names_in

from ..paths import escape_of


class FileFinder:
    """Looks for the files that a JSON names, below one folder and nowhere else.

    Args:
        folder: that the names start at, or None where it isn't known: then nothing is looked for.
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = folder if folder and is_folder(folder) else None
        self._listings: dict[str, dict[str, str]] = {}

    def meant(self, name: Any) -> tuple[str, str] | None:
        """The name to write, and the code of the fault that the original had, or an empty text.

        A name that leads elsewhere, or is written in other letters, is that of a file in the folder if there is one
        of the same name there, with as many of its folders as fit. None: there is no such file, or nobody knows.
        """
        if not isinstance(name, str) or not name:
            return None
        if escape_of(name) is None:
            return self._in_folder(name)
        parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..") and not part.endswith(":")]
        for first in range(len(parts)):
            candidate = "/".join(parts[first:])
            found = self._in_folder(candidate) if escape_of(candidate) is None else None
            if found is not None and (self.folder is not None or first == len(parts) - 1):
                return found[0], "path-escape"
        return None

    def path(self, name: str) -> str | None:
        """Where the file of a name is; None where the folder isn't known."""
        return os.path.join(self.folder, *name.split("/")) if self.folder is not None else None

    def _in_folder(self, name: str) -> tuple[str, str] | None:
        """The name if it is there, or written otherwise."""
        path = self.path(name)
        if path is None or is_file(path):
            return name, ""
        folder, base = os.path.split(path)
        other = self._listing(folder).get(base.casefold())
        if other is None or not is_file(os.path.join(folder, other)):
            return None
        return "/".join([*name.split("/")[:-1], other]), "picture-missing"

    def _listing(self, folder: str) -> dict[str, str]:
        if folder not in self._listings:
            try:
                self._listings[folder] = {name.casefold(): name for name in names_in(folder)}
            except OSError:
                self._listings[folder] = {}
        return self._listings[folder]
