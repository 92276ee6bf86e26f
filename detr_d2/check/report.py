"""Faults for people and for programs: a table of the first of each kind, and JSON with all of them."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO, NamedTuple, TextIO

from tabulate import tabulate

from detr_d2.files import write_whole
from detr_d2.labels.rules.rule import Fault
from detr_d2.labels.rules.table import RULES
from detr_d2.labels.values import shown

#: Characters of a table where there is no terminal to ask, and at least.
_USUAL_WIDTH, _LEAST_WIDTH = 160, 110


class Column(NamedTuple):
    """A column of a table.

    Args:
        heading: above it.
        least: characters that it has in any case.
        share: of what the terminal has left, 0 to 1.
    """

    heading: str
    least: int
    share: float = 0.0


_COLUMNS = (
    *(Column("", 7), Column("file", 22, 0.15), Column("image id", 12), Column("segment id", 12)),
    *(Column("fault", 30, 0.5), Column("fix", 22, 0.35)),
)


class Findings:
    """Counts faults by kind and keeps the first of each, however many there are.

    Args:
        kept: so many of each kind.
        root: folder that paths are shown from, if they lie in it.
    """

    def __init__(self, kept: int, root: str | None = None) -> None:
        self._kept = kept
        self._root = root
        self._first: dict[str, list[Fault]] = {}
        self.counts: dict[str, int] = {}

    def add(self, found: Fault) -> None:
        """Take one more fault."""
        self.counts[found.code] = self.counts.get(found.code, 0) + 1
        first = self._first.setdefault(found.code, [])
        if len(first) < self._kept:
            first.append(found)

    @property
    def errors(self) -> int:
        """How many would stop training or make it go wrong."""
        return sum(count for code, count in self.counts.items() if RULES[code].severity == "error")

    @property
    def warnings(self) -> int:
        """How many training copes with."""
        return sum(self.counts.values()) - self.errors

    def first(self) -> Iterator[Fault]:
        """The faults kept: errors first, kinds in the order of :data:`RULES`."""
        for severity in ("error", "warning"):
            for code, kind in RULES.items():
                if kind.severity == severity:
                    yield from self._first.get(code, ())

    def table(self) -> str:
        """The faults kept, as a table; the first of a kind says what to do, the last whether there are more."""
        return text_table(_COLUMNS, self._rows())

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        for found in self.first():
            kept = self._first[found.code]
            fix = found.fix if found is kept[0] else ""
            where = (plain_path(found.file, self._root), found.image_id, found.segment_id)
            yield (found.severity, *where, _fault_text(found), fix)
            more = self.counts[found.code] - len(kept)
            if more and found is kept[-1]:
                yield ("", "", "", "", f"{found.code}: {more} more", "")

    def summary(self) -> str:
        """One line with the numbers."""
        return f"{_counted(self.errors, 'error')}, {_counted(self.warnings, 'warning')}"


def _fault_text(found: Fault) -> str:
    return f"{found.code}: {found.message}"


def text_table(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> str:
    """A table as wide as the terminal; what doesn't fit into a column goes on in its next line."""
    total = max(shutil.get_terminal_size((_USUAL_WIDTH, 0)).columns, _LEAST_WIDTH)
    left = max(0, total - sum(column.least + 2 for column in columns))
    widths = [column.least + int(column.share * left) for column in columns]
    headings = [column.heading for column in columns]
    return tabulate([*rows], headers=headings, maxcolwidths=widths, disable_numparse=True, missingval="")


def plain_path(path: str, root: str | None = None) -> str:
    """A path as people type it, or from ``root`` on, without anything that a terminal would obey."""
    near = os.path.relpath(path, root)
    if near.startswith("..") and root is not None:
        near = os.path.relpath(path)
    text = path if near.startswith("..") or len(near) > len(path) else near
    return text if text.isprintable() else shown(text)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


class JsonReport:
    """Writes faults as JSON while they are found, so that any number of them fits.

    Args:
        file: open for writing.
        dataset: its name, for the reader.
        mode: ``quick`` or ``full``.
    """

    def __init__(self, file: TextIO, dataset: str, mode: str) -> None:
        self._file = file
        self._separator = "\n    "
        file.write(f'{{\n  "dataset": {json.dumps(dataset)},\n  "mode": {json.dumps(mode)},\n  "faults": [')

    def add(self, found: Fault) -> None:
        """Write one fault."""
        self._file.write(self._separator + json.dumps(asdict(found)))
        self._separator = ",\n    "

    def close(self, findings: Findings) -> None:
        """Write the numbers and the end."""
        numbers: dict[str, Any] = {
            "errors": findings.errors,
            "warnings": findings.warnings,
            "counts": findings.counts,
        }
        rest = "".join(f',\n  "{key}": {json.dumps(value)}' for key, value in numbers.items())
        self._file.write(f"\n  ]{rest}\n}}\n")


def write_report(path: str, faults: Iterable[Fault], findings: Findings, dataset: str, mode: str) -> Findings:
    """Write faults into a file while they are found; it is there whole or not at all.

    Args:
        path: of the file.
        faults: are added to ``findings``, which is returned.
        dataset, mode: see :class:`JsonReport`.
    """

    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
        collect(faults, findings, JsonReport(text, dataset, mode))
        text.detach()

    write_whole(path, write)
    return findings


def collect(faults: Iterable[Fault], findings: Findings, report: JsonReport | None = None) -> Findings:
    """Add all faults to ``findings``, and to the report if there is one."""
    for found in faults:
        findings.add(found)
        if report is not None:
            report.add(found)
    if report is not None:
        report.close(findings)
    return findings
