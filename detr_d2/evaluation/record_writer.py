"""Writes an evaluation's records, previews and facts, whole or not at all."""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from detr_d2.evaluation.records import (
    PREVIEWS_FILE,
    RECORDS_FILE,
    RUN_FILE,
    EvaluationRecord,
    encode_preview,
)
from detr_d2.evaluation.spool import LineSpool
from detr_d2.files import write_text, write_whole

from detectron2.utils import comm


class RecordWriter:
    """Takes pictures one by one, in each process its own, and writes the files at the end.

    Args:
        folder: where to.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._records, self._previews = LineSpool(), LineSpool()

    def add(self, record: EvaluationRecord, predicted_map: np.ndarray, segments: Sequence[Mapping[str, Any]]) -> None:
        """Add a picture and the map (H, W) predicted for it, with its segments in the record's order."""
        self._records.add(record.as_line())
        preview = base64.b64encode(encode_preview(predicted_map, segments)).decode()
        self._previews.add(json.dumps([str(record.image_id), preview]).encode() + b"\n")

    def write(self, run: Mapping[str, Any]) -> None:
        """Join the pictures of all processes; the main one writes. All have to call it.

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
    """PNGs don't become smaller, so that they are stored as they are; a picture that came twice is there once."""
    seen = set()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for line in previews:
            image_id, content = json.loads(line)
            if image_id not in seen:
                archive.writestr(f"{image_id}.png", base64.b64decode(content))
            seen.add(image_id)
