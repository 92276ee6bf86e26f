"""Faults that show only when several exports become one dataset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from .categories import normalised_name
from .faults import Fault, fault, shown
from .values import is_id


class Merging:
    """What several exports have in common that they shouldn't; each is added in turn."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._classes: dict[str, str] = {}
        self._ids: set[Any] = set()
        self._shared = 0
        self._example: Any = None

    def add(self, content: dict[str, Any], file: str) -> Iterator[Fault]:
        """Faults of one export against the earlier ones."""
        entries = [entry for entry in _list(content, "images") if is_id(entry.get("id"))]
        for entry in entries:
            name = entry.get("file_name")
            if isinstance(name, str) and name:
                first = self._names.setdefault(os.path.basename(name).casefold(), file)
                if first != file:
                    message = f"{shown(name)} is the name of a picture of {first} too."
                    yield fault("path-collision", file, message, entry["id"])
        ids = {entry["id"] for entry in entries}
        if shared := ids & self._ids:
            self._shared += len(shared)
            self._example = next(iter(shared))
        self._ids |= ids
        for entry in _list(content, "categories"):
            name = entry.get("name")
            if isinstance(name, str):
                first = self._classes.setdefault(normalised_name(name), name)
                if first != name:
                    yield fault("category-name-alike", file, f"{shown(name)} is called {shown(first)} elsewhere.")

    def faults(self, file: str) -> Iterator[Fault]:
        """What is said once of all exports together."""
        if self._shared:
            message = f"{self._shared} image ids are used by several of the files, such as {shown(self._example)}."
            yield fault("id-shared", file, message)


def _list(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = content.get(key)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
