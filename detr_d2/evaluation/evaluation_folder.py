"""The folder that an evaluation wrote: facts, records and previews, checked as they are read; they may be cut off."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from detr_d2.data.categories import Category
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.evaluation.boundaries import INSIDE
from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.records import PREVIEWS_FILE, RECORDS_FILE, RUN_FILE, EvaluationRecord
from detr_d2.files import open_regular
from detr_d2.labels.rules.json_files import json_type
from detr_d2.labels.values import MAX_SEGMENT_ID

#: Previews are far smaller; more isn't unpacked.
_MOST_BYTES, _MOST_SIDE = 2**24, 2**12
#: Sides of images and sums of pixels fit into 32 bits and 63.
_MOST = 2**31 - 1
#: Ids of pixels that are of no segment, and of no segment's boundary.
_NO_SEGMENT = {VOID, INSIDE}

Check: TypeAlias = Callable[[Any], bool]
Checks: TypeAlias = Mapping[str, Check]


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
    is_class = _whole(0, _MOST if num_classes is None else num_classes - 1)
    with open_regular(path) as file:
        for number, line in enumerate(file, 1):
            try:
                content = json.loads(line)
                _check_record(content, is_class)
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
        _check(content, _RUN)
        for number, entry in enumerate(content["categories"]):
            _check(entry, _CATEGORY, f"categories[{number}].")
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} isn't there. Name a folder that 'train_net.py --eval-only' wrote.") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} isn't what an evaluation writes: {error}. Evaluate anew.") from error
    return content


def is_number(value: Any, least: float, most: float) -> bool:
    """A number within bounds, and no boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _whole(least: float, most: float) -> Check:
    return lambda value: isinstance(value, int) and is_number(value, least, most)


def _kind(*kinds: type) -> Check:
    return lambda value: isinstance(value, kinds)


_IS_AREA, _IS_ID, _IS_FLAG = _whole(1, math.inf), _whole(1, MAX_SEGMENT_ID), _whole(0, 1)
_IS_CHANNEL, _IS_COUNT, _IS_TEXT, _IS_FACT = _whole(0, 255), _whole(0, _MOST), _kind(str), _kind(str, type(None))
#: What the keys of an evaluation's files may be.
_RUN: Checks = {
    "dataset": _IS_TEXT,
    **dict.fromkeys(("weights", "config", "finished", "commit"), _IS_FACT),
    "categories": lambda value: isinstance(value, list) and bool(value),
}
_CATEGORY: Checks = {
    "id": _whole(-math.inf, math.inf),
    "name": _IS_TEXT,
    "is_thing": _kind(bool),
    "color": lambda value: isinstance(value, list) and len(value) == 3 and all(map(_IS_CHANNEL, value)),
}
_RECORD: Checks = {
    "image_id": lambda value: isinstance(value, str) or _whole(-math.inf, math.inf)(value),
    **dict.fromkeys(("file_name", "pan_seg_file_name"), _IS_TEXT),
    **dict.fromkeys(("height", "width"), _whole(1, _MOST)),
    **dict.fromkeys(("true", "predicted", "overlaps"), _kind(list)),
    "boundary_overlaps": _kind(list, type(None)),
}


def _check(content: Any, checks: Checks, prefix: str = "") -> None:
    """Raises a ValueError that names the first key of an object which isn't what it may be."""
    if not isinstance(content, dict):
        raise ValueError(f"{prefix or 'the object'} is {json_type(content)}")
    for key, is_sound in checks.items():
        if not is_sound(content.get(key)):
            raise ValueError(f"{prefix}{key} is missing or wrong")


def _check_record(content: Any, is_class: Check) -> None:
    """Raises a ValueError that says what is wrong with a line of ``records.jsonl``."""
    _check(content, _RECORD)
    of_any = {"id": _IS_ID, "class": is_class, "area": _IS_AREA}
    true = _areas(content, "true", of_any | {"iscrowd": _IS_FLAG})
    predicted = _areas(content, "predicted", of_any | {"score": lambda value: value is None or is_number(value, 0, 1)})
    if _sums(content["overlaps"], true, predicted) != (true, predicted):
        raise ValueError("overlaps don't add up to the segments' areas")
    boundaries = content.get("boundary_overlaps")
    if boundaries is not None:
        sums = _sums(boundaries, true, predicted)
        if (sums[0].keys(), sums[1].keys()) != (true.keys(), predicted.keys()):
            raise ValueError("boundary_overlaps are of other segments")


def _areas(content: dict[str, Any], key: str, checks: Checks) -> dict[int, int]:
    """Area by id of the segments under ``key``."""
    areas: dict[int, int] = {}
    for number, segment in enumerate(content[key]):
        _check(segment, checks, f"{key}[{number}].")
        areas[segment["id"]] = segment["area"]
    if len(areas) < len(content[key]):
        raise ValueError(f"{key} has an id twice")
    return areas


def _sums(entries: list[Any], true: dict[int, int], predicted: dict[int, int]) -> tuple[dict[int, int], dict[int, int]]:
    """What pairs of overlaps add up to for each true and each predicted segment."""
    sums: tuple[dict[int, int], dict[int, int]] = {}, {}
    seen = set()
    for entry in entries:
        is_sound = isinstance(entry, list) and len(entry) == 3 and all(map(_IS_COUNT, entry)) and entry[2] > 0
        if not is_sound or (entry[0], entry[1]) in seen:
            raise ValueError(f"{entry!r:.80} is no overlap, or there twice")
        seen.add((entry[0], entry[1]))
        for known, part, segment_id in zip((true, predicted), sums, entry):
            if segment_id in known:
                part[segment_id] = part.get(segment_id, 0) + entry[2]
            elif segment_id not in _NO_SEGMENT:
                raise ValueError(f"the overlap {entry} names an unknown segment")
    return sums
