"""Faults and changes for people and for programs: tables of the first of each kind, files with all, and refusals.

The last is what a training does that ``DATASETS.CHECK`` has look at its datasets first.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TextIO

from detr_d2.errors import DatasetError
from detr_d2.files import write_whole
from detr_d2.labels.rules.rule import RULES, Action, Change, Fault
from detr_d2.labels.values import shown
from detr_d2.parallel import default_workers
from detr_d2.wording import counted

from .dataset import dataset_faults
from .sources import sources_of_registered

if TYPE_CHECKING:
    from detectron2.config import CfgNode

#: Characters of a table where there is no terminal to ask, and at least.
_USUAL_WIDTH, _LEAST_WIDTH = 160, 110
#: Errors that a refused training shows.
_SHOWN = 5
#: Reading the dataset finds these as well, and knows where such a dataset is usually kept.
_LEFT_TO_LOADING = ("json-missing", "folder-missing")


class Column(NamedTuple):
    """A column of a table: its heading, characters that it has in any case, and its share of those left, 0 to 1."""

    heading: str
    least: int
    share: float = 0.0


_WHERE = (Column("", 7), Column("file", 22, 0.2), Column("image id", 12), Column("segment id", 12))
_OF_FAULTS = (*_WHERE, Column("fault", 30, 0.5), Column("fix", 22, 0.3))
_OF_CHANGES = (*_WHERE, Column("fault", 20), Column("what was done", 40, 0.8))


class Findings:
    """Counts faults by kind and keeps the first of each; paths are shown from ``root``, if they lie in it."""

    def __init__(self, kept: int, root: str | None = None) -> None:
        self._kept, self._root = kept, root
        self._first: dict[str, list[Fault]] = {}
        self.counts: Counter[str] = Counter()

    def take(self, faults: Iterable[Fault]) -> Findings:
        """Takes some more; returns itself."""
        for found in faults:
            self.counts[found.code] += 1
            if self.counts[found.code] <= self._kept:
                self._first.setdefault(found.code, []).append(found)
        return self

    @property
    def errors(self) -> int:
        """How many would stop training or make it go wrong."""
        return sum(count for code, count in self.counts.items() if RULES[code].severity == "error")

    @property
    def warnings(self) -> int:
        """How many training copes with."""
        return self.counts.total() - self.errors

    def first(self) -> list[Fault]:
        """The faults kept: errors first, kinds in the order of :data:`RULES`."""
        kept = [found for code in RULES for found in self._first.get(code, ())]
        return sorted(kept, key=lambda found: found.severity)

    def table(self) -> str:
        """The faults kept, errors first; the first of a kind says what to do, the last whether there are more."""
        return _text_table(_OF_FAULTS, self._rows())

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        for found in self.first():
            kept = self._first[found.code]
            text = f"{found.code}: {found.message}"
            yield (found.severity, *_where(found, self._root), text, found.fix if found is kept[0] else "")
            more = self.counts[found.code] - len(kept)
            if more and found is kept[-1]:
                yield ("", "", "", "", f"{found.code}: {more} more", "")

    def summary(self) -> str:
        """One line with the numbers."""
        return f"{counted(self.errors, 'error')}, {counted(self.warnings, 'warning')}"


class ChangeLog:
    """Counts changes by kind, keeps the first of each, and writes all of them into a CSV file."""

    def __init__(self, file: TextIO, kept: int, root: str) -> None:
        self._writer = csv.writer(file)
        self._writer.writerow(["action", "fault", "file", "image id", "segment id", "what was done"])
        self._kept, self._root = kept, root
        self._first: dict[tuple[Action, str], list[Change]] = {}
        self.counts: Counter[tuple[Action, str]] = Counter()

    def add(self, changes: Iterable[Change]) -> None:
        """Take some more."""
        for change in changes:
            key = (change.action, change.code)
            self.counts[key] += 1
            if self.counts[key] <= self._kept:
                self._first.setdefault(key, []).append(change)
            self._writer.writerow([_cell(value) for value in vars(change).values()])

    def summary(self) -> str:
        """One line with the numbers."""
        fixed = sum(count for (action, _), count in self.counts.items() if action == "fixed")
        return f"{fixed} fixed and {self.counts.total() - fixed} left out"

    def removals(self) -> list[Change]:
        """The removals kept; of whole files first."""
        kept = [change for (action, _), first in self._first.items() if action == "removed" for change in first]
        return sorted(kept, key=lambda change: change.image_id is not None)

    def table(self) -> str:
        """The changes kept, removals first, kinds in the order of the document."""
        return _text_table(_OF_CHANGES, self._rows())

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        order = list(RULES)
        for action, code in sorted(self._first, key=lambda key: (key[0] != "removed", order.index(key[1]))):
            first = self._first[action, code]
            for change in first:
                yield (action, *_where(change, self._root), code, change.done)
            more = self.counts[action, code] - len(first)
            if more:
                yield ("", "", "", "", code, f"{more} more")


def _text_table(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> str:
    """A table as wide as the terminal; what doesn't fit into a column goes on in its next line."""
    from tabulate import tabulate

    total = max(shutil.get_terminal_size((_USUAL_WIDTH, 0)).columns, _LEAST_WIDTH)
    left = max(0, total - sum(column.least + 2 for column in columns))
    widths = [column.least + int(column.share * left) for column in columns]
    headings = [column.heading for column in columns]
    return tabulate([*rows], headers=headings, maxcolwidths=widths, disable_numparse=True, missingval="")


def _where(one: Fault | Change, root: str | None) -> tuple[Any, ...]:
    """File, image id and segment id; the path as people type it, without anything that a terminal would obey."""
    near = os.path.relpath(one.file, root)
    if near.startswith("..") and root is not None:
        near = os.path.relpath(one.file)
    path = one.file if near.startswith("..") or len(near) > len(one.file) else near
    return path if path.isprintable() else shown(path), one.image_id, one.segment_id


def _cell(value: Any) -> str:
    """Text for a spreadsheet, which must not take it for a formula."""
    text = "" if value is None else str(value)
    text = text if text.isprintable() else shown(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not text[1:].isdigit() else text


def write_report(path: str, faults: Iterable[Fault], findings_: Findings, dataset: str, mode: str) -> None:
    """Writes faults as JSON while they are found, so that any number of them fits; ``findings_`` takes them, too.

    Args:
        path: a file, which is there whole or not at all; ``-`` is the standard output.
        dataset, mode: its name, and ``quick`` or ``full``, for the reader.
    """

    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
        _write_faults(text, faults, findings_, dataset, mode)
        text.detach()

    if path == "-":
        _write_faults(sys.stdout, faults, findings_, dataset, mode)
    else:
        write_whole(path, write)


def _write_faults(file: TextIO, faults: Iterable[Fault], findings_: Findings, dataset: str, mode: str) -> None:
    file.write(f'{{\n  "dataset": {json.dumps(dataset)},\n  "mode": {json.dumps(mode)},\n  "faults": [')
    separator = "\n    "
    for found in faults:
        findings_.take([found])
        file.write(separator + json.dumps(asdict(found)))
        separator = ",\n    "
    numbers = {"errors": findings_.errors, "warnings": findings_.warnings, "counts": findings_.counts}
    rest = "".join(f',\n  "{key}": {json.dumps(value)}' for key, value in numbers.items())
    file.write(f"\n  ]{rest}\n}}\n")


def check_before_training(cfg: CfgNode) -> list[str]:
    """Check the datasets of a config as ``DATASETS.CHECK`` says, as far as this project registered them.

    Args:
        cfg: whose ``DATASETS.TRAIN`` and ``DATASETS.TEST`` are looked at.

    Returns:
        A line for each kind of warning, for the log.

    Raises:
        DatasetError: something would stop the training or make it go wrong.
        ConfigError: ``DATASETS.CHECK`` isn't quick, full or off.
    """
    from detr_d2.config import check_values  # and Detectron2, which a check of files doesn't need

    check_values(cfg, "DATASETS.CHECK")
    mode = cfg.DATASETS.CHECK
    if mode == "off":
        return []
    names = list(dict.fromkeys([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]))
    found = dataset_faults(sources_of_registered(names), mode == "quick", default_workers())
    findings = Findings(_SHOWN).take(fault for fault in found if fault.code not in _LEFT_TO_LOADING)
    if findings.errors:
        lines = [f"{found.line()} Fix: {found.fix}." for found in findings.first()[: min(_SHOWN, findings.errors)]]
        more = findings.errors - len(lines)
        raise DatasetError(
            f"the datasets {', '.join(names)} have faults that would stop the training or make it go wrong:\n  "
            + "\n  ".join([*lines, *([f"... and {more} more"] if more else [])])
            + "\n'detr-d2 check' with the JSON or the register.yaml shows all of them; "
            f"DATASETS.CHECK off trains nevertheless (it is {mode})."
        )
    kinds: dict[str, str] = {}
    for warning in findings.first():
        more = findings.counts[warning.code] - 1
        kinds.setdefault(warning.code, warning.line() + (f" ({more} more of this kind)" if more else ""))
    return list(kinds.values())
