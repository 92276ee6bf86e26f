"""A fixed copy of a dataset: written beside, checked, and put into its place once it is right."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from detr_d2.errors import DatasetError
from detr_d2.files import current_umask, uninterrupted
from detr_d2.labels.rules.images import IMAGE_UNLABELLED
from detr_d2.labels.rules.rule import Change
from detr_d2.parallel import in_processes

from .changes import ChangeLog
from .layout import Target, plan, write_register
from .leftover import remove_leftover
from .repairing import CopiedImage, Draft, Written, copy_image, draft, write_json
from .report import Findings
from .sources import Sources

#: Wraps what becomes of images, to show how far the copy is; gets their number as well.
Progress = Callable[[Iterable[Any], int], Iterable[Any]]

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
        with _beside(target_folder) as partial:
            with open(partial / CHANGES, "w", encoding="utf-8", newline="", errors="backslashreplace") as file:
                log = ChangeLog(file, kept, root or os.curdir)
                targets = _copied(dataset, plan(dataset, root), partial, log, workers, progress)
                findings = Findings(kept)
                if targets:
                    targets, findings = remove_leftover(dataset, targets, partial, log, workers)
            if not targets:
                raise DatasetError(_nothing_left(log))
            if dataset.names:
                write_register(partial, dataset, targets)
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
        with _beside(folder, is_kept=False):
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


@contextmanager
def _beside(folder: Path, is_kept: bool = True) -> Iterator[Path]:
    """A folder beside the wanted one, which takes its place at the end, or goes, and with it what was made for it."""
    made = [above for above in folder.parents if not above.exists()]
    partial = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name[:20]}.", suffix=".partial", dir=folder.parent))
        yield partial
        if is_kept:
            partial.chmod(0o777 & ~current_umask())
            os.rename(partial, folder)  # over an empty folder, if there is one
            made = []
    finally:
        with uninterrupted():
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
            for above in made:
                with suppress(OSError):  # it wasn't made after all, or another program's files are there now
                    above.rmdir()


def _copied(
    dataset: Sources, targets: list[Target], folder: Path, log: ChangeLog, workers: int, progress: Progress
) -> list[Target]:
    """Copy each JSON with its images; returns those of which something is left."""
    written: Written = {}
    left = []
    for target in targets:
        changes: list[Change] = []
        made = draft(target, changes)
        log.add(changes)
        if made is not None and _copy_one(made, folder, written, log, workers, progress):
            left.append(target)
    return left


def _copy_one(made: Draft, folder: Path, written_: Written, log: ChangeLog, workers: int, progress: Progress) -> bool:
    """Copy one JSON with its images; False where nothing of it is left."""
    for place in filter(None, (made.target.images, made.target.panoptic_root)):
        (folder / place).mkdir(parents=True, exist_ok=True)
    tasks, done = made.tasks(folder, written_), list[CopiedImage]()
    with closing(in_processes(copy_image, tasks, workers)) as results:  # no process writes once this one has left
        for each in progress(results, len(tasks)):
            log.add(each.changes)
            each.changes = []
            done.append(each)
    for task, each in zip(tasks, done):
        if each.plan is not None and each.entry is not None and task.target is not None:
            written_.setdefault(task.task.listed.path or "", (each.plan, each.entry["file_name"]))
    changes: list[Change] = []
    content = made.content(done, changes)
    log.add(changes)
    is_labelled = any(task.task.count for task in tasks)
    if not content["images"] or (is_labelled and not content["annotations"]):
        text = "the whole file is left out: nothing that is right is left of it"
        log.add([Change("removed", IMAGE_UNLABELLED.code, made.target.source.json_file, None, None, text)])
        return False
    write_json(folder / made.target.json_file, content)
    return True


def _nothing_left(log: ChangeLog) -> str:
    reasons = "\n  ".join(f"{change.file}: {change.code}: {change.done}" for change in log.removals()[:5])
    return f"nothing of the dataset can be fixed, so there is no copy:\n  {reasons}"
