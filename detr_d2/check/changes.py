"""What was changed in a fixed copy: a table of the first of each kind, and a CSV file of all."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from detr_d2.labels.rules.rule import Action, Change
from detr_d2.labels.rules.table import RULES
from detr_d2.labels.values import shown

from .report import Column, plain_path, text_table

_COLUMNS = (Column("", 7), Column("file", 22, 0.2), Column("image id", 12), Column("segment id", 12))


class ChangeLog:
    """Counts changes by kind, keeps the first of each, and writes all of them into a CSV file.

    Args:
        file: open for writing, with ``newline=""``.
        kept: so many of each kind.
        root: folder that paths are shown from.
    """

    def __init__(self, file: TextIO, kept: int, root: str) -> None:
        self._writer = csv.writer(file)
        self._writer.writerow(["action", "fault", "file", "image id", "segment id", "what was done"])
        self._kept = kept
        self._root = root
        self._first: dict[tuple[Action, str], list[Change]] = {}
        self.counts: dict[tuple[Action, str], int] = {}

    def add(self, changes: Iterable[Change]) -> None:
        """Take some more."""
        for change in changes:
            key = (change.action, change.code)
            self.counts[key] = self.counts.get(key, 0) + 1
            first = self._first.setdefault(key, [])
            if len(first) < self._kept:
                first.append(change)
            cells = (change.action, change.code, change.file, change.image_id, change.segment_id, change.done)
            self._writer.writerow([_cell(value) for value in cells])

    def number(self, action: Action) -> int:
        """How many were fixed, or removed."""
        return sum(count for (of, _), count in self.counts.items() if of == action)

    def summary(self) -> str:
        """One line with the numbers."""
        return f"{self.number('fixed')} fixed and {self.number('removed')} left out"

    def removals(self) -> list[Change]:
        """The removals kept; of whole files first."""
        kept = [change for (action, _), first in self._first.items() if action == "removed" for change in first]
        return sorted(kept, key=lambda change: change.image_id is not None)

    def table(self) -> str:
        """The changes kept, removals first, kinds in the order of the document."""
        return text_table((*_COLUMNS, Column("fault", 20), Column("what was done", 40, 0.8)), self._rows())

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        order = {code: number for number, code in enumerate(RULES)}
        keys = sorted(self._first, key=lambda key: (key[0] != "removed", order.get(key[1], len(order)), key[1]))
        for action, code in keys:
            for change in self._first[action, code]:
                where = (plain_path(change.file, self._root), change.image_id, change.segment_id)
                yield (action, *where, code, change.done)
            more = self.counts[action, code] - len(self._first[action, code])
            if more:
                yield ("", "", "", "", code, f"{more} more")


def _cell(value: Any) -> str:
    """Text for a spreadsheet, which must not take it for a formula."""
    text = "" if value is None else str(value)
    text = text if text.isprintable() else shown(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not text[1:].isdigit() else text
