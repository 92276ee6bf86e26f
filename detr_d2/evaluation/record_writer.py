"""Writes an evaluation's records, previews and facts, whole or not at all; what waits for its end lies on disk."""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from detr_d2.errors import ConfigError
from detr_d2.evaluation.records import (
    PREVIEWS_FILE,
    RECORDS_FILE,
    RUN_FILE,
    EvaluationRecord,
    encode_preview,
)
from detr_d2.files import write_text, write_whole

from detectron2.utils import comm


class LineSpool:
    """Lines on disk, in a file that goes away with this object.

    Raises:
        ConfigError: in any method: the folder of temporary files is full, or can't be written.
    """

    def __init__(self) -> None:
        with _told():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as this object lives

    def add(self, line: bytes) -> None:
        """Add a line, which ends with a line break."""
        with _told():
            self._file.write(line)

    def gathered(self) -> Iterator[bytes]:
        """In the main process the lines of all processes, in the order of their ranks; none elsewhere.

        All processes have to call it, and to iterate.
        """
        with _told():
            self._file.seek(0)
        if comm.get_world_size() == 1:
            yield from self._file
            return
        for part in comm.gather(self._file.read()):
            yield from part.splitlines(keepends=True)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the system refuses, with the folder, which nobody has named."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"what is kept of each image while an evaluation goes on can't be written to {tempfile.gettempdir()}: "
            f"{error.strerror or error}. Make room there, or set TMPDIR to a folder on another disk."
        ) from error


class RecordWriter:
    """Takes images one by one, in each process its own, and writes the files at the end.

    Args:
        folder: where to.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._records, self._previews = LineSpool(), LineSpool()

    def add(self, record: EvaluationRecord, predicted_map: np.ndarray, segments: Sequence[Mapping[str, Any]]) -> None:
        """Add an image and the map (H, W) predicted for it, with its segments in the record's order."""
        self._records.add(record.as_line())
        preview = base64.b64encode(encode_preview(predicted_map, segments)).decode()
        self._previews.add(json.dumps([str(record.image_id), preview]).encode() + b"\n")

    def write(self, run: Mapping[str, Any]) -> None:
        """Join the images of all processes; the main one writes. All have to call it.

        Args:
            run: facts for ``run.json``.
        """
        records, previews = self._records.gathered(), self._previews.gathered()
        if not comm.is_main_process():
            list(records), list(previews)
            return
        write_whole(self._folder / RECORDS_FILE, lambda file: file.writelines(records))
        write_whole(self._folder / PREVIEWS_FILE, lambda file: _write_zip(file, previews))
        write_text(self._folder / RUN_FILE, json.dumps(run, indent=1, allow_nan=False))


def _write_zip(file: BinaryIO, previews: Iterator[bytes]) -> None:
    """PNGs don't become smaller, so that they are stored as they are; an image that came twice is there once."""
    seen = set()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for line in previews:
            image_id, content = json.loads(line)
            if image_id not in seen:
                archive.writestr(f"{image_id}.png", base64.b64decode(content))
            seen.add(image_id)
