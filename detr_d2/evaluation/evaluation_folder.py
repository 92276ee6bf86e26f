"""The folder that an evaluation wrote: its facts, records and previews, checked as they are read."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.data.categories import Category
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.evaluation.record_checks import check_record, check_run
from detr_d2.evaluation.records import PREVIEWS_FILE, RECORDS_FILE, RUN_FILE, EvaluationRecord
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
        """One image after another.

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


def evaluation_folders(run: Path) -> list[Path]:
    """The folders with an evaluation's records: ``run`` itself, or those of its datasets.

    Raises:
        MissingFileError: there is none.
    """
    if (run / RECORDS_FILE).is_file():
        return [run]
    for pattern in (f"inference/*/{RECORDS_FILE}", f"*/{RECORDS_FILE}"):
        found = sorted(path.parent for path in run.glob(pattern))
        if found:
            return found
    raise MissingFileError(
        f"no evaluation is in {run}: neither {run / RECORDS_FILE} nor {run / 'inference' / '*' / RECORDS_FILE} is "
        "there. Evaluate with 'train_net.py --eval-only' and name its OUTPUT_DIR; models of boxes only (stage 1) leave "
        "none."
    )


def read_records(folder: Path | str, num_classes: int | None = None) -> Iterator[EvaluationRecord]:
    """The records of an evaluation's folder, one after the other.

    Args:
        folder: of the evaluation.
        num_classes: that ``run.json`` has; None where nobody has looked.

    Raises:
        MissingFileError: the folder has no records.
        DatasetError: a line isn't a record.
    """
    path = Path(folder) / RECORDS_FILE
    if not path.is_file():
        raise MissingFileError(
            f"{path} isn't there. Name a folder that 'train_net.py --eval-only' wrote, for example "
            "output/inference/my_val; evaluations of earlier versions have to be done anew."
        )
    names = {field.name for field in fields(EvaluationRecord)}
    with open_regular(path) as file:
        for number, line in enumerate(file, 1):
            try:
                content = json.loads(line)
                check_record(content, num_classes)
            except (ValueError, RecursionError) as error:
                raise DatasetError(f"{path}, line {number} isn't a record: {error}. Evaluate anew.") from error
            yield EvaluationRecord(**{name: value for name, value in content.items() if name in names})


def read_run(folder: Path | str) -> dict[str, Any]:
    """What ``run.json`` of an evaluation's folder says: dataset, categories, weights, config, versions.

    Raises:
        MissingFileError, DatasetError: it isn't there, or isn't what an evaluation writes.
    """
    path = Path(folder) / RUN_FILE
    try:
        with open_regular(path) as file:
            content: dict[str, Any] = json.load(file)
        check_run(content)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} isn't there. Name a folder that 'train_net.py --eval-only' wrote.") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} isn't what an evaluation writes: {error}. Evaluate anew.") from error
    return content
