"""What an evaluation left in its folder, as the report needs it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.data.categories import Category
from detr_d2.evaluation.records import PREVIEWS_FILE, RECORDS_FILE, RUN_FILE, EvaluationRecord, read_records, read_run
from detr_d2.evaluation.report.views import PictureFiles
from detr_d2.files import open_regular

#: Previews are far smaller; more isn't unpacked.
_MOST_BYTES, _MOST_SIDE = 2**24, 2**12


class EvaluationFolder:
    """A folder that ``train_net.py --eval-only`` wrote for one dataset.

    Args:
        path: the folder that has ``records.jsonl`` and ``run.json``.

    Raises:
        MissingFileError: ``run.json`` isn't there.
        DatasetError: it isn't what an evaluation writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = read_run(path)
        self.categories = [
            Category(c["id"], c["name"], c["is_thing"], tuple(c["color"])) for c in self.run["categories"]
        ]

    def records(self) -> Iterator[EvaluationRecord]:
        """One picture after another.

        Raises:
            MissingFileError, DatasetError: there are no records, or a line isn't one.
        """
        return read_records(self.path, len(self.categories))

    def own_files(self) -> list[str]:
        """The files that the evaluation wrote and that are read."""
        return [str(self.path / name) for name in (RUN_FILE, RECORDS_FILE, PREVIEWS_FILE)]

    def image_files(self) -> Iterator[str]:
        """The images and PNGs of its dataset.

        Raises:
            MissingFileError, DatasetError: there are no records, or a line isn't one.
        """
        for record in self.records():
            yield from (record.file_name, record.pan_seg_file_name)

    def preview(self, image_id: Any) -> np.ndarray | None:
        """The small map of a prediction (h, w), or None where there is none that can be read."""
        try:
            with open_regular(self.path / PREVIEWS_FILE) as file, zipfile.ZipFile(file) as archive:
                entry = archive.getinfo(f"{image_id}.png")
                content = archive.read(entry) if entry.file_size <= _MOST_BYTES else b""
            with Image.open(io.BytesIO(content)) as image:
                return np.asarray(image).astype(np.int64) if max(image.size) <= _MOST_SIDE else None
        except Exception:  # damaged archives and PNGs raise all sorts of errors, and a report does without previews
            return None


def files_of(record: EvaluationRecord, preview: np.ndarray | None) -> PictureFiles:
    """Where the parts of a record's picture are; a preview of another prediction isn't shown."""
    ids = [s["id"] for s in record.predicted]
    if preview is not None and (preview.ndim != 2 or not preview.size or preview.min() < 0 or preview.max() > len(ids)):
        preview = None
    return PictureFiles(record.file_name, record.pan_seg_file_name, record.height, record.width, preview, ids)
