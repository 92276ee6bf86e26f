"""What an evaluation left in its folder, as the report needs it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.data.categories import Category
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.evaluation.report.scene import Scene
from detr_d2.evaluation.report.views import PictureFiles

RECORDS, RUN, PREVIEWS = "records.jsonl", "run.json", "previews.zip"
Record = dict[str, Any]


class EvaluationFolder:
    """A folder that ``train_net.py --eval-only`` wrote for one dataset.

    Args:
        path: the folder that has ``records.jsonl`` and ``run.json``.

    Raises:
        MissingFileError: one of them isn't there.
        DatasetError: ``run.json`` isn't what an evaluation writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in (RECORDS, RUN):
            if not (path / name).is_file():
                raise MissingFileError(
                    f"{path / name} isn't there. Name a folder that 'train_net.py --eval-only' wrote; evaluations of "
                    "earlier versions have to be done anew."
                )
        try:
            self.run: dict[str, Any] = json.loads((path / RUN).read_text(encoding="utf-8"))
            self.categories = [
                Category(c["id"], c["name"], bool(c["is_thing"]), tuple(c["color"])) for c in self.run["categories"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path / RUN} isn't what an evaluation writes: {error!r}. Evaluate anew.") from error

    def records(self) -> Iterator[Record]:
        """One picture after another."""
        with (self.path / RECORDS).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DatasetError(
                        f"{self.path / RECORDS}, line {number} isn't JSON: {error}. Evaluate anew."
                    ) from error

    def preview(self, image_id: Any) -> np.ndarray | None:
        """The small map of a prediction (h, w), or None."""
        try:
            with zipfile.ZipFile(self.path / PREVIEWS) as archive:
                content = archive.read(f"{image_id}.png")
            return np.asarray(Image.open(io.BytesIO(content))).astype(np.int64)
        except (OSError, KeyError, zipfile.BadZipFile):
            return None


def scene_of(record: Record) -> Scene:
    """The segments of a record and their overlaps."""
    true = record["true"]
    return Scene(
        {s["id"]: s["class"] for s in true if not s.get("iscrowd")},
        {s["id"]: s["class"] for s in true if s.get("iscrowd")},
        {s["id"]: s["class"] for s in record["predicted"]},
        {(true_id, predicted_id): pixels for true_id, predicted_id, pixels in record["overlaps"]},
    )


def scores_of(record: Record) -> dict[int, float | None]:
    """The score of each predicted segment, where it has one."""
    return {s["id"]: s.get("score") for s in record["predicted"]}


def files_of(record: Record, preview: np.ndarray | None) -> PictureFiles:
    """Where the parts of a record's picture are."""
    return PictureFiles(
        record["file_name"],
        record["pan_seg_file_name"],
        record["height"],
        record["width"],
        preview,
        [s["id"] for s in record["predicted"]],
    )
