"""Faults that show only when several exports become one dataset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from detr_d2.labels.class_names import normal_name
from detr_d2.labels.rules.categories import CATEGORY_NAME_ALIKE
from detr_d2.labels.rules.ids import ID_SHARED
from detr_d2.labels.rules.json_files import objects_of
from detr_d2.labels.rules.names import PATH_COLLISION
from detr_d2.labels.rules.rule import Finding, Place
from detr_d2.labels.values import is_id, numbered, shown


class Merging:
    """What several exports have in common that they shouldn't; each is added in turn."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._classes: dict[str, str] = {}
        self._ids: set[Any] = set()
        self._shared = 0
        self._example: Any = None

    def rules(self, content: dict[str, Any], file: str) -> Iterator[Finding]:
        """Findings about one export against the earlier ones, which it is added to."""
        entries = [entry for _, entry in numbered(objects_of(content, "images")) if is_id(entry.get("id"))]
        for entry in entries:
            name = entry.get("file_name")
            if isinstance(name, str) and name:
                first = self._names.setdefault(os.path.basename(name).casefold(), file)
                if first != file:
                    message = f"{shown(name)} is the name of an image of {first} too."
                    yield Place(file, entry["id"]).found(PATH_COLLISION, message)
        ids = {entry["id"] for entry in entries}
        if shared := ids & self._ids:
            self._shared += len(shared)
            self._example = next(iter(shared))
        self._ids |= ids
        for _, entry in numbered(objects_of(content, "categories")):
            name = entry.get("name")
            if isinstance(name, str):
                first = self._classes.setdefault(normal_name(name), name)
                if first != name:
                    message = f"{shown(name)} is called {shown(first)} elsewhere."
                    yield Place(file).found(CATEGORY_NAME_ALIKE, message)

    def final_rules(self, file: str) -> Iterator[Finding]:
        """What is said once of all exports together."""
        if self._shared:
            message = f"{self._shared} image ids are used by several of the files, such as {shown(self._example)}."
            yield Place(file).found(ID_SHARED, message)
