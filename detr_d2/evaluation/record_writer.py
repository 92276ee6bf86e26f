"""Writes an evaluation's records, previews and facts, whole or not at all; what waits for its end lies on disk."""

from __future__ import annotations

import base64
import contextlib
import json
import platform
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import numpy as np
import torch

import detr_d2
from detr_d2.backend import backend_report
from detr_d2.data import Category
from detr_d2.errors import ConfigError
from detr_d2.evaluation.records import (
    PREVIEWS_FILE,
    RECORDS_FILE,
    RUN_FILE,
    EvaluationRecord,
    encode_preview,
)
from detr_d2.files import write_text, write_whole

from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage


class LineSpool:
    """Lines on disk, in a file that goes away with this object.

    Raises:
        ConfigError: in any method: the folder of temporary files is full, or can't be written.
    """

    def __init__(self) -> None:
        with _explaining_full_disk():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as this object lives

    def add(self, line: bytes) -> None:
        """Add a line, which ends with a line break."""
        with _explaining_full_disk():
            self._file.write(line)

    def gathered(self) -> Iterator[bytes]:
        """In the main process the lines of all processes, in the order of their ranks; none elsewhere.

        All processes have to call it, and to iterate.
        """
        with _explaining_full_disk():
            self._file.seek(0)
        if comm.get_world_size() == 1:
            yield from self._file
            return
        for part in comm.gather(self._file.read()):
            yield from part.splitlines(keepends=True)


@contextlib.contextmanager
def _explaining_full_disk() -> Iterator[None]:
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


def run_facts(dataset_name: str, categories: Sequence[Category], cfg: CfgNode | None) -> dict[str, Any]:
    """Facts for ``run.json``; what isn't known is absent.

    Args:
        dataset_name: that is evaluated.
        categories: of the dataset, by contiguous class.
        cfg: of the run.
    """
    facts: dict[str, Any] = {"dataset": dataset_name}
    iteration = training_iteration()
    if iteration is not None:
        facts |= {"weights": f"the model in training, after iteration {iteration}", "iteration": iteration}
    elif cfg is not None:
        facts["weights"] = cfg.MODEL.WEIGHTS
    backend = backend_report()
    facts["versions"] = {
        **{"detr_d2": detr_d2.__version__, backend.name: backend.version, "torch": torch.__version__},
        **{"numpy": numpy.__version__, "python": platform.python_version()},
    }
    commit = _commit()
    facts |= {"commit": commit} if commit else {}
    facts |= {"finished": datetime.now(timezone.utc).isoformat(timespec="seconds"), "platform": platform.platform()}
    if cfg is not None:
        facts |= {"seed": cfg.SEED, "config": cfg.dump()}
    facts["categories"] = [
        {"id": c.id, "name": c.name, "is_thing": c.is_thing, "color": list(c.color)} for c in categories
    ]
    return facts


def training_iteration() -> int | None:
    """The iteration of the training that is going on, or None."""
    try:
        return int(get_event_storage().iter)
    except AssertionError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this package is run from, "-dirty" if files differ; None for an installed one."""
    folder = Path(detr_d2.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    # Nothing is written, not even a lock, which a full disk would leave there for good; "describe --dirty" writes.
    git = ["git", "--no-optional-locks", "-C", str(folder)]
    try:
        commit = _output(*git, "rev-parse", "--short=12", "HEAD")
        changed = _output(*git, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
