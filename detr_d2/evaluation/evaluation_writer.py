"""Writes an evaluation's files, whole or not at all; what waits for its end lies on disk.

They are the records of :mod:`detr_d2.evaluation.records`, small maps of the predictions, the run's facts, and, where
they are wanted, the predictions as COCO panoptic files, a PNG for each image and a JSON, as ``detr-d2 pq`` reads them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import weakref
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

import detr_d2
from detr_d2.backend import backend_report
from detr_d2.data import Category
from detr_d2.data.segments import find_segments, number_segments
from detr_d2.errors import ConfigError
from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.records import (
    PREVIEWS_FILE,
    RECORDS_FILE,
    RUN_FILE,
    EvaluationRecord,
    encode_preview,
)
from detr_d2.files import write_text, write_whole
from detr_d2.labels.panoptic_png import encode_ids

from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

#: The JSON file of predictions, and without .json the folder of its PNGs.
PREDICTIONS_FILE = "panoptic_predictions.json"


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


class EvaluationWriter:
    """Takes images one by one, in each process its own; the files are there when all are written.

    Args:
        folder: where to.
        categories: of the dataset, by contiguous class.
        dataset_dicts: all of the dataset's, where predictions are wanted as COCO panoptic files; else None. Their
            folder ``panoptic_predictions`` is replaced.
    """

    def __init__(
        self, folder: str, categories: Sequence[Category], dataset_dicts: Sequence[Mapping[str, Any]] | None
    ) -> None:
        self._folder, self._categories = Path(folder), categories
        self._records, self._previews, self._predictions = LineSpool(), LineSpool(), LineSpool()
        self._names = None if dataset_dicts is None else _png_names(dataset_dicts)
        self._partial = self._folder / f".{Path(PREDICTIONS_FILE).stem}.partial"
        self._cleaning: Any = None

    def add(self, record: EvaluationRecord, predicted_map: np.ndarray, segments: Sequence[Mapping[str, Any]]) -> None:
        """Add an image and the map (H, W) predicted for it, with its segments in the record's order."""
        self._records.add(record.as_line())
        preview = base64.b64encode(encode_preview(predicted_map, segments)).decode()
        self._previews.add(json.dumps([str(record.image_id), preview]).encode() + b"\n")
        if self._names is not None:
            if self._cleaning is None and comm.is_main_process():
                # An evaluation that fails, or is stopped, leaves no half of its predictions. A writer that was given
                # nothing cleans nothing: other processes may have begun already.
                self._cleaning = weakref.finalize(self, shutil.rmtree, self._partial, ignore_errors=True)
            self._add_prediction(record, predicted_map, self._names[record.image_id])

    def _add_prediction(self, record: EvaluationRecord, predicted_map: np.ndarray, name: str) -> None:
        """The PNG of an image, and what the JSON says of it."""
        ids = [segment["id"] for segment in record.predicted]
        numbers = number_segments(predicted_map, ids, name)
        write_whole(self._partial / name, lambda file: file.write(encode_ids(numbers, [VOID, *ids])))
        boxes = find_segments(numbers, np.ones(len(ids), dtype=bool), mask_stride=None).boxes.astype(int).tolist()
        found = [
            {
                **{"id": s["id"], "category_id": self._categories[s["class"]].id, "iscrowd": 0, "area": s["area"]},
                **{"bbox": [left, top, right - left, bottom - top], "score": s["score"]},
            }
            for s, (left, top, right, bottom) in zip(record.predicted, boxes, strict=True)
        ]
        image = {"id": record.image_id, "file_name": os.path.basename(record.file_name)}
        image |= {"height": record.height, "width": record.width}
        annotation = {"image_id": record.image_id, "file_name": name, "segments_info": found}
        self._predictions.add(json.dumps([image, annotation], allow_nan=False).encode() + b"\n")

    def write(self, run: Mapping[str, Any]) -> None:
        """Join the images of all processes; the main one writes. All have to call it.

        Args:
            run: facts for ``run.json``.
        """
        records, previews = self._records.gathered(), self._previews.gathered()
        predictions = iter(()) if self._names is None else self._predictions.gathered()
        if not comm.is_main_process():
            for lines in (records, previews, predictions):
                list(lines)  # sends them, in the order in which the main process asks for them
            return
        write_whole(self._folder / RECORDS_FILE, lambda file: file.writelines(records))
        write_whole(self._folder / PREVIEWS_FILE, lambda file: _write_zip(file, previews))
        write_text(self._folder / RUN_FILE, json.dumps(run, indent=1, allow_nan=False))
        if self._names is not None:
            self._write_predictions([json.loads(line) for line in predictions])

    def _write_predictions(self, found: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> None:
        """The JSON, and the PNGs where they belong."""
        entries = {annotation["image_id"]: (image, annotation) for image, annotation in found}
        images, annotations = zip(*entries.values()) if entries else ((), ())
        content = {"images": images, "annotations": annotations, "categories": [c.to_json() for c in self._categories]}
        path = self._folder / PREDICTIONS_FILE
        path.unlink(missing_ok=True)
        self._partial.mkdir(parents=True, exist_ok=True)
        names = {annotation["file_name"] for annotation in annotations}
        for png in self._partial.iterdir():  # of a run that was killed
            if png.name not in names:
                png.unlink()
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        os.replace(self._partial, path.with_suffix(""))
        if self._cleaning is not None:
            self._cleaning.detach()
        write_text(path, json.dumps(content, allow_nan=False, separators=(",", ":")))


def _png_names(dataset_dicts: Sequence[Mapping[str, Any]]) -> dict[Any, str]:
    """By image id the name of the ground truth's PNG, numbered where several have the same."""
    bases = {p["image_id"]: Path(p["pan_seg_file_name"]).stem for p in dataset_dicts}
    times = Counter(bases.values())
    return {
        image_id: f"{base}.png" if times[base] == 1 else f"{row:06d}_{base}.png"
        for row, (image_id, base) in enumerate(bases.items())
    }


def _write_zip(file: BinaryIO, previews: Iterator[bytes]) -> None:
    """PNGs don't become smaller, so that they are stored as they are; an image that came twice is there once."""
    seen = set()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for image_id, content in map(json.loads, previews):
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
    iteration, backend, commit = training_iteration(), backend_report(), _commit()
    if iteration is not None:
        facts |= {"weights": f"the model in training, after iteration {iteration}", "iteration": iteration}
    elif cfg is not None:
        facts["weights"] = cfg.MODEL.WEIGHTS
    facts["versions"] = {
        **{"detr_d2": detr_d2.__version__, backend.name: backend.version, "torch": torch.__version__},
        **{"numpy": np.__version__, "python": platform.python_version()},
    }
    facts |= {"commit": commit} if commit else {}
    facts |= {"finished": datetime.now(timezone.utc).isoformat(timespec="seconds"), "platform": platform.platform()}
    facts |= {} if cfg is None else {"seed": cfg.SEED, "config": cfg.dump()}
    keys = ("id", "name", "is_thing", "color")
    return facts | {"categories": [{key: getattr(category, key) for key in keys} for category in categories]}


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
    questions = ["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]
    try:
        commit, changed = (
            subprocess.run([*git, *words], capture_output=True, text=True, timeout=20, check=True).stdout.strip()
            for words in questions
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit
