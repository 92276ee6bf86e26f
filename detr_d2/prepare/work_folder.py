"""The folder of work in progress beside the dataset's: an interrupted run leaves it, the next one goes on with it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from detr_d2.errors import DatasetError, UserError, os_error_message

from .preparing import StoppedError, WritingError

try:
    import fcntl
except ImportError:  # Windows: two runs at once aren't noticed there
    fcntl = None  # type: ignore[assignment]

#: Processes of a run that was killed hold its lock until they notice, which takes less than all tries together.
_TRIES, _WAIT = 4, 0.5


@dataclass
class Work:
    """The work in progress.

    Args:
        folder: its folder.
        is_ours: nothing of an earlier run with other options is in it.
    """

    folder: Path
    is_ours: bool


@contextmanager
def work_folder(target: Path) -> Iterator[Work]:
    """The folder of the work in progress beside ``target``, for one run at a time.

    It stays where the run is stopped from outside, so that the same command can go on. A run that is refused leaves
    nothing, but for what an earlier one with other options had left.

    Raises:
        DatasetError: another run works there.
        WritingError: something can't be written.
        KeyboardInterrupt: with a sentence that says how to go on.
    """
    folder = partial_of(target)
    goes_on = f"The same command again goes on where it stopped; what is finished is in {folder} until then."
    above = _absent_above(target)
    work = Work(folder, is_ours=not folder.exists())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder, target):
            try:
                yield work
            except (StoppedError, KeyboardInterrupt):
                raise
            except UserError:
                if work.is_ours:
                    shutil.rmtree(folder, ignore_errors=True)
                    _remove_empty(above)
                raise
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise WritingError(f"{os_error_message(error)} {goes_on}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted. {goes_on}") from None


def partial_of(target: Path) -> Path:
    """Where the work in progress on a dataset's folder is."""
    return target.parent / f".{target.name}.partial"


def refuse_unwritable(target: Path) -> None:
    """Sees that a dataset's folder can be made, before anything is read for it.

    Raises:
        OSError: what the system has against it.
    """
    folder, above = partial_of(target), _absent_above(target)
    if folder.is_dir():
        return
    try:
        folder.mkdir(parents=True)
    finally:
        _remove_empty([folder, *above])


def _absent_above(target: Path) -> list[Path]:
    """The folders above a path that aren't there, the nearest first."""
    return [parent for parent in target.parents if not parent.exists()]


def _remove_empty(folders: Iterable[Path]) -> None:
    """Removes folders in turn as far as nothing is in them."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def _locked(folder: Path, target: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        for attempt in range(_TRIES if fcntl else 0):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if attempt == _TRIES - 1:
                    raise DatasetError(f"another 'detr-d2 prepare' is writing {target}; wait for it to end.") from error
                time.sleep(_WAIT)
        yield
