"""Work in progress beside the dataset's folder: an interrupted run leaves it, the next one goes on with it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from detr_d2.errors import DatasetError, UserError, os_error_message
from detr_d2.labels.records import FileRef

from .picture import StoppedError, Task, WritingError
from .results import PictureResult, result_from_json

try:
    import fcntl
except ImportError:  # Windows: two runs at once aren't noticed there
    fcntl = None  # type: ignore[assignment]

#: Processes of a run that was killed hold its lock until they notice, which takes less than all tries together.
_TRIES, _WAIT = 4, 0.5


def task_key(task: Task, others: Iterable[Path] = ()) -> str:
    """Names a picture, its labels and the state of all files that are read for it: another key, other results.

    Args:
        task: the picture.
        others: files that are read beside its own and those of its labels.
    """
    digest = hashlib.sha256(repr(task).encode("utf-8", "surrogatepass"))
    for file in sorted({ref.path for ref in _files_of(task)} | set(others)):
        digest.update(_state_of(file))
    return digest.hexdigest()[:32]


def _files_of(thing: Any) -> Iterator[FileRef]:
    """The files that a record and what is in it name; labels that are known have none."""
    if isinstance(thing, FileRef):
        yield thing
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            yield from _files_of(getattr(thing, field.name))


def _state_of(file: Path) -> bytes:
    try:
        state = file.stat()
    except OSError:
        return b"absent"
    return f"{file}:{state.st_size}:{state.st_mtime_ns}".encode("utf-8", "surrogatepass")


class Journal:
    """Prepared pictures, one line each, in the order in which they were finished.

    Args:
        folder: of the work in progress: ``journal.jsonl``, and ``data/``, which becomes the dataset.
        context: names everything that all pictures depend on; what was prepared otherwise is thrown away.
    """

    def __init__(self, folder: Path, context: str) -> None:
        self.data = folder / "data"
        self._path = folder / "journal.jsonl"
        self._places: dict[str, int] = {}
        header = hashlib.sha256(context.encode("utf-8", "surrogatepass")).hexdigest() + "\n"
        if not self._read(header):
            shutil.rmtree(self.data, ignore_errors=True)
            self._path.write_text(header, encoding="ascii")
        self.data.mkdir(exist_ok=True)
        self._file: BinaryIO = self._path.open("r+b")
        self._file.seek(0, os.SEEK_END)

    def _read(self, header: str) -> bool:
        """Looks for finished pictures; False where there is no journal of this context."""
        if not self._path.is_file():
            return False
        with self._path.open("rb") as file:
            if file.readline() != header.encode():
                return False
            place = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break  # written when the run ended
                key, _, content = line.partition(b" ")
                if self._is_whole(content):
                    self._places[key.decode("ascii", "replace")] = place
                place += len(line)
        with self._path.open("r+b") as file:
            file.truncate(place)
        return True

    def _is_whole(self, content: bytes) -> bool:
        """Whether a picture needn't be prepared again; what failed is tried anew, as what made it fail may be gone."""
        try:
            result = result_from_json(content.decode())
        except ValueError:
            return False
        paths = (self.data / "images" / result.file_name, self.data / "panoptic" / result.png)
        try:
            return not result.skipped and result.sizes == tuple(path.stat().st_size for path in paths)
        except OSError:
            return False

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def add(self, key: str, result: PictureResult) -> None:
        """Notes a picture whose files are there."""
        self._places[key] = self._file.tell()
        self._file.write(f"{key} {result.to_json()}\n".encode())
        self._file.flush()

    def results(self, keys: Sequence[str]) -> Iterator[PictureResult]:
        """The pictures of the keys, in their order, read one at a time."""
        with self._path.open("rb") as file:
            for key in keys:
                file.seek(self._places[key])
                yield result_from_json(file.readline().partition(b" ")[2].decode())

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@dataclasses.dataclass
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
