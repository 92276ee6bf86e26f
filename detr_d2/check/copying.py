"""A fixed copy of a dataset: written beside, checked, and put into its place once it is right."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from detr_d2.errors import DatasetError
from detr_d2.folders import folder_beside

from .leftover import Leftover
from .repairing import Copier, Progress, plan, write_register
from .report import ChangeLog, Findings
from .sources import Sources

CHANGES = "changes.csv"


def fix_dataset(
    dataset: Sources,
    out: str,
    root: str | None = None,
    kept: int = 5,
    workers: int = 1,
    progress: Progress = lambda results, count: results,
) -> tuple[ChangeLog, Findings]:
    """Write a copy of a dataset that has no errors left; the original stays as it is.

    What is wrong is fixed where what was meant is beyond doubt; otherwise the label, or the image with all its
    labels, isn't part of the copy. Warnings that only a person can decide about remain. ``out`` is there whole or not
    at all, and holds ``changes.csv`` with everything that was changed.

    Args:
        dataset: of COCO's JSON files.
        out: a folder that isn't there yet, or is empty.
        root: folder of the dataset: what lies in it keeps its place.
        kept: changes of each kind that the log keeps for its table.
        workers: processes that read and write images.
        progress: shows how far the images are.

    Returns:
        What was changed, and the warnings that remain.

    Raises:
        DatasetError: ``out`` holds something, can't be written, or nothing of the dataset would be left.
    """
    target_folder = _absolute(out)
    refuse_taken(out)
    try:
        with folder_beside(target_folder) as partial:
            with open(partial / CHANGES, "w", encoding="utf-8", newline="", errors="backslashreplace") as file:
                log = ChangeLog(file, kept, root or os.curdir)
                copier = Copier(partial, log, workers, progress)
                targets = [target for target in plan(dataset, root) if copier.copy(target)]
                leftover = Leftover(dataset, targets, partial, log, workers)
                findings = leftover.remove() if targets else Findings(kept)
            if not leftover.targets:
                raise DatasetError(_nothing_left(log))
            if dataset.names:
                write_register(partial, dataset, leftover.targets)
    except OSError as error:
        raise _unwritable(out, error) from error
    return log, findings


def refuse_taken(out: str) -> None:
    """See that a folder isn't there yet, or is empty, and can be made.

    Raises:
        DatasetError: it holds something, is something else, or the system refuses it.
    """
    folder = _absolute(out)
    try:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise DatasetError(f"{out} is there and isn't a folder; name another one for --fix.")
        if folder.is_dir() and any(folder.iterdir()):
            raise DatasetError(f"{out} holds files already, and stays as it is; name a new folder for --fix.")
        with folder_beside(folder, is_kept=False):
            pass
    except OSError as error:
        raise _unwritable(out, error) from error


def refuse_inside(out: str, folders: Iterable[str], report: str | None = None) -> None:
    """Raises a DatasetError where a copy would lie in what is copied, or a report in the copy.

    Args:
        out: folder of the copy.
        folders: that are read.
        report: a file, ``-``, or None.
    """
    target = os.path.realpath(_absolute(out))
    for folder in folders:
        if _is_below(target, os.path.realpath(folder)):
            raise DatasetError(
                f"{out} lies in {folder}, which is read, and would become part of it; "
                "name a folder elsewhere for --fix."
            )
    if report and report != "-" and _is_below(os.path.realpath(report), target):
        raise DatasetError(f"--json {report} lies in {out}, which has to be a new folder; name another file.")


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _absolute(out: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(out)))


def _unwritable(out: str, error: OSError) -> DatasetError:
    return DatasetError(f"{out} can't be written: {error.strerror or error}. Nothing is there; name another folder.")


def _nothing_left(log: ChangeLog) -> str:
    reasons = "\n  ".join(f"{change.file}: {change.code}: {change.done}" for change in log.removals()[:5])
    return f"nothing of the dataset can be fixed, so there is no copy:\n  {reasons}"
