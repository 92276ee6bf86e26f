"""All of ``detr-d2 prepare``: from exports to a folder with a dataset, in a folder of work in progress beside it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from detr_d2.errors import DatasetError, StoppedError
from detr_d2.folders import put_in_place, refuse_foreign
from detr_d2.labels.records import Export
from detr_d2.parallel import default_workers, in_processes, on_cluster
from detr_d2.progress import progress

from .classes import LabelRules, build_class_table, decide_crowds
from .finishing import FILES, MARKER, finish
from .journal import ImageResult, Journal, Work, refuse_unwritable, work_folder
from .options import PrepareOptions
from .preparing import Preparer, Task, make_tasks, task_key
from .stuff.policies import StuffPolicy
from .summary import Summary

#: What is prepared differently by another version of this code must not be mixed.
_VERSION = 3


@dataclass(frozen=True)
class Prepared:
    """A dataset's folder, the content of its ``report.json``, and how many images an interrupted run had finished."""

    folder: Path
    report: dict[str, Any]
    reused: int


def prepare(exports: Sequence[Export], policy: StuffPolicy, options: PrepareOptions) -> Prepared:
    """Make a dataset of exports: all of it or nothing.

    It is made in ``.<name>.partial`` beside ``options.out`` and renamed at the end. Where that is interrupted, another
    call goes on with the images that were finished and whose files are as they were.

    Args:
        exports: what people, or COCO's annotators, labelled.
        policy: for what people didn't label.
        options: see there.

    Raises:
        DatasetError: names of classes or images that can't be matched; overlaps where they are errors; ``out`` holds
            something else; nothing is left to train on.
        StoppedError: ``out`` can't be written, or a process was ended; another call goes on.
    """
    target = find_target(options.out)
    table = build_class_table(exports, policy.categories, options.categories, options.classes)
    crowds, notes = decide_crowds(exports, table, options.crowds)
    summary = Summary(table, exports)
    for note in notes:
        summary.add_note(note)
        summary.warnings.append(note.message)
    tasks = make_tasks(exports)
    if not tasks:
        raise DatasetError("the exports have no image; nothing to prepare.")
    rules = LabelRules(table, crowds, options.overlap, options.min_area, options.holes == "fill")
    with work_folder(target) as work:
        preparer = Preparer(work.folder / "data", rules, policy, options)
        report, reused = _make(work, tasks, preparer, summary)
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


def _make(work: Work, tasks: Sequence[Task], preparer: Preparer, summary: Summary) -> tuple[dict[str, Any], int]:
    """Makes the dataset in ``data/`` of the work folder; its report, and how many images were there already."""
    started, options, policy = time.monotonic(), preparer.options, preparer.policy
    (work.folder / "stuff").mkdir(exist_ok=True)
    policy.prepare([task.record for task in tasks if task.fills_rest], work.folder / "stuff")
    context = repr((_VERSION, options.images, options.quality, preparer.rules, policy))
    with Journal(work.folder, context) as journal:
        work.is_ours = True
        keys, reused = _prepare_images(tasks, journal, preparer)
        for note in policy.notes:
            summary.add_note(note)
        return finish(journal, keys, options, summary, policy.asked_for or repr(policy), started), reused


def _prepare_images(tasks: Sequence[Task], journal: Journal, preparer: Preparer) -> tuple[list[str], int]:
    """Prepares what the journal hasn't yet; the keys of all images in order, and how many were there already."""
    policy = preparer.policy
    keys = [
        task_key(task, policy.files_of(task.record.name) if task.fills_rest else ())
        for task in progress(tasks, len(tasks), "image", "labels")
    ]
    waiting = [(key, task) for key, task in zip(keys, tasks) if key not in journal]
    results = _results(preparer, [task for _, task in waiting])
    try:
        for (key, _), result in zip(waiting, progress(results, len(waiting), "image", "images"), strict=True):
            journal.add(key, result)
    except DatasetError as error:  # of the processes; what is wrong with an image is part of its result
        raise StoppedError(
            "a process that prepared images was ended, as happens when memory runs out. "
            "The same command with --workers 1 goes on where it stopped."
        ) from error
    if preparer.rules.overlap == "error":
        _refuse_overlaps(journal, keys)
    return keys, len(tasks) - len(waiting)


def _results(preparer: Preparer, tasks: Sequence[Task]) -> Iterator[ImageResult]:
    """What is prepared of each image, in their order, in processes of this machine or of a cluster."""
    options = preparer.options
    if options.engine == "ray":
        return on_cluster(partial(_for_each, preparer), tasks, options.workers)
    return in_processes(preparer, tasks, options.workers or default_workers())


def _for_each(preparer: Preparer) -> Callable[[list[Task]], list[ImageResult]]:
    return lambda tasks: [preparer(task) for task in tasks]


def _refuse_overlaps(journal: Journal, keys: Sequence[str]) -> None:
    """Raises a DatasetError that lists every overlap, as whoever takes them for errors has to fix each of them."""
    lines: list[str] = []
    overlapping = 0
    for result in journal.results(keys):
        overlapping += bool(result.overlaps)
        lines += (f"  {result.name}: labels {one} and {other} share {n} pixels" for one, other, n in result.overlaps)
    if lines:
        raise DatasetError(
            f"labels overlap in {overlapping} of {len(keys)} images, {len(lines)} pairs of them:\n"
            + "\n".join(lines)
            + "\nCorrect them, or say who is on top: --overlap small-on-top, z-order, file-order or last."
        )
