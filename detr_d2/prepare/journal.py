"""Prepared images, one line each, so that an interrupted run can go on with them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from detr_d2.labels.records import FileRef

from .results import ImageResult, result_from_json
from .tasks import Task


def task_key(task: Task, others: Iterable[Path] = ()) -> str:
    """Names an image, its labels and the state of all files that are read for it: another key, other results.

    Args:
        task: the image.
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
    """Prepared images, one line each, in the order in which they were finished.

    Args:
        folder: of the work in progress: ``journal.jsonl``, and ``data/``, which becomes the dataset.
        context: names everything that all images depend on; what was prepared otherwise is thrown away.
    """

    def __init__(self, folder: Path, context: str) -> None:
        self.data = folder / "data"
        self._path = folder / "journal.jsonl"
        self._offsets: dict[str, int] = {}
        header = hashlib.sha256(context.encode("utf-8", "surrogatepass")).hexdigest() + "\n"
        if not self._read(header):
            shutil.rmtree(self.data, ignore_errors=True)
            self._path.write_text(header, encoding="ascii")
        self.data.mkdir(exist_ok=True)
        self._file: BinaryIO = self._path.open("r+b")
        self._file.seek(0, os.SEEK_END)

    def _read(self, header: str) -> bool:
        """Looks for finished images; False where there is no journal of this context."""
        if not self._path.is_file():
            return False
        with self._path.open("rb") as file:
            if file.readline() != header.encode():
                return False
            offset = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break  # written when the run ended
                key, _, content = line.partition(b" ")
                if self._is_whole(content):
                    self._offsets[key.decode("ascii", "replace")] = offset
                offset += len(line)
        with self._path.open("r+b") as file:
            file.truncate(offset)
        return True

    def _is_whole(self, content: bytes) -> bool:
        """Whether an image needn't be prepared again; what failed is tried anew, as what made it fail may be gone."""
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
        return key in self._offsets

    def add(self, key: str, result: ImageResult) -> None:
        """Notes an image whose files are there."""
        self._offsets[key] = self._file.tell()
        self._file.write(f"{key} {result.to_json()}\n".encode())
        self._file.flush()

    def results(self, keys: Sequence[str]) -> Iterator[ImageResult]:
        """The images of the keys, in their order, read one at a time."""
        with self._path.open("rb") as file:
            for key in keys:
                file.seek(self._offsets[key])
                yield result_from_json(file.readline().partition(b" ")[2].decode())

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
