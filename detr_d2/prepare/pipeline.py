"""All of ``detr-d2 prepare``: from exports to a folder with a dataset."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from detr_d2.data.new_folder import put_in_place, refuse_foreign
from detr_d2.errors import DatasetError
from detr_d2.parallel import in_processes

from .classes import build_class_table
from .crowds import decide_crowds
from .finishing import FILES, MARKER, Finishing
from .journal import Journal, Work, refuse_unwritable, task_key, work_folder
from .options import PrepareOptions
from .picture import StoppedError, Task, Workshop
from .segmenting import LabelRules
from .stuff.policy import StuffPolicy
from .summary import Summary
from .tasks import Input, make_tasks

#: What is prepared differently by another version of this code must not be mixed.
_VERSION = 2

Progress: TypeAlias = Callable[[Iterable[Any], int, str], Iterable[Any]]


@dataclass(frozen=True)
class Prepared:
    """What was made.

    Args:
        folder: of the dataset.
        report: the content of its ``report.json``.
        reused: pictures that an interrupted run had finished.
    """

    folder: Path
    report: dict[str, Any]
    reused: int


def prepare(
    inputs: Sequence[Input],
    policy: StuffPolicy,
    options: PrepareOptions,
    progress: Progress = lambda things, count, title: things,
) -> Prepared:
    """Make a dataset of exports: all of it or nothing.

    It is made in ``.<name>.partial`` beside ``options.out`` and renamed at the end. Where that is interrupted, another
    call goes on with the pictures that were finished and whose files are as they were.

    Args:
        inputs: the exports.
        policy: for what people didn't label.
        options: see there.
        progress: wraps things to go through, given their number and a title, to show how far it is.

    Raises:
        DatasetError: names of classes or pictures that can't be matched; overlaps where they are errors; ``out`` holds
            something else; nothing is left to train on.
        StoppedError: ``out`` can't be written, or a process was ended; another call goes on.
    """
    target = find_target(options.out)
    exports = [entry.export for entry in inputs]
    table = build_class_table(exports, policy.categories, options.categories, options.classes)
    crowds, notes = decide_crowds(exports, table, options.crowds)
    summary = Summary(table, exports)
    for note in notes:
        summary.add_note(note)
        summary.warnings.append(note.message)
    tasks = make_tasks(inputs)
    if not tasks:
        raise DatasetError("the exports have no picture; nothing to prepare.")
    rules = LabelRules(table, crowds, options.overlap, options.min_area, options.holes == "fill")
    with work_folder(target) as work:
        report, reused = _make(work, tasks, rules, policy, options, summary, progress)
        put_in_place(work.folder / "data", target)
        shutil.rmtree(work.folder, ignore_errors=True)
    return Prepared(target, report, reused)


def find_target(out: Path) -> Path:
    """Where the dataset goes, an absolute path.

    Raises:
        DatasetError: something else is there.
        OSError: it can't be written.
    """
    target = Path(os.path.abspath(out))
    refuse_foreign(target, MARKER, FILES, "a dataset made by 'detr-d2 prepare'")
    refuse_unwritable(target)
    return target


def _make(
    work: Work,
    tasks: Sequence[Task],
    rules: LabelRules,
    policy: StuffPolicy,
    options: PrepareOptions,
    summary: Summary,
    progress: Progress,
) -> tuple[dict[str, Any], int]:
    """Makes the dataset in ``data/`` of the work folder; its report, and how many pictures were there already."""
    started, folder = time.monotonic(), work.folder
    (folder / "stuff").mkdir(exist_ok=True)
    policy.prepare([task.record for task in tasks if task.fills_rest], folder / "stuff", progress)
    workshop = Workshop(folder / "data", rules, policy, options.pictures, options.quality)
    with Journal(folder, repr((_VERSION, options.of_a_picture(), rules, policy))) as journal:
        work.is_ours = True
        keys, reused = _work(tasks, journal, workshop, options.workers, progress)
        for note in getattr(policy, "notes", ()):
            summary.add_note(note)
        return Finishing(journal, keys, rules.table, options).finish(summary, repr(policy), started), reused


def _work(
    tasks: Sequence[Task], journal: Journal, workshop: Workshop, workers: int, progress: Progress
) -> tuple[list[str], int]:
    """Prepares what the journal hasn't yet; the keys of all pictures in order, and how many were there already."""
    keys = [task_key(task, _files_beside(task, workshop.policy)) for task in progress(tasks, len(tasks), "labels")]
    waiting = [(key, task) for key, task in zip(keys, tasks) if key not in journal]
    results = in_processes(workshop, [task for _, task in waiting], workers)
    try:
        for (key, _), result in zip(waiting, progress(results, len(waiting), "pictures")):
            journal.add(key, result)
    except DatasetError as error:  # of the processes; what is wrong with a picture is part of its result
        raise StoppedError(
            "a process that prepared pictures was ended, as happens when memory runs out. "
            "The same command with --workers 1 goes on where it stopped."
        ) from error
    if workshop.rules.overlap == "error":
        _refuse_overlaps(journal, keys)
    return keys, len(tasks) - len(waiting)


def _files_beside(task: Task, policy: StuffPolicy) -> Sequence[Path]:
    return policy.files_of(task.name) if task.fills_rest else ()


def _refuse_overlaps(journal: Journal, keys: Sequence[str]) -> None:
    """Raises a DatasetError that lists every overlap, as whoever takes them for errors has to mend each of them."""
    lines: list[str] = []
    overlapping = 0
    for result in journal.results(keys):
        overlapping += bool(result.overlaps)
        pairs = (f"labels {one} and {other} share {pixels} pixels" for one, other, pixels in result.overlaps)
        lines += [f"  {result.name}: {pair}" for pair in pairs]
    if lines:
        raise DatasetError(
            f"labels overlap in {overlapping} of {len(keys)} images, {len(lines)} pairs of them:\n"
            + "\n".join(lines)
            + "\nCorrect them, or say who is on top: --overlap small-on-top, z-order, file-order or last."
        )
