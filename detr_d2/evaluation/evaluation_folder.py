"""The folder that an evaluation wrote: facts, records and previews, checked as they are read; they may be cut off."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.data.categories import Category
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.evaluation.boundaries import INSIDE
from detr_d2.evaluation.overlaps import VOID
from detr_d2.evaluation.records import PREVIEWS_FILE, RECORDS_FILE, RUN_FILE, EvaluationRecord
from detr_d2.files import open_regular
from detr_d2.labels.json_reading import json_type
from detr_d2.labels.panoptic_png import MAX_SEGMENT_ID

#: Previews are far smaller; more isn't unpacked.
_MOST_BYTES, _MOST_SIDE = 2**24, 2**12
#: Sides of images and sums of pixels fit into 32 bits and 63.
_MOST = 2**31 - 1
#: Ids of pixels that are of no segment, and of no segment's boundary.
_NO_SEGMENT = {VOID, INSIDE}


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


def check_record(content: Any, num_classes: int | None = None) -> None:
    """Raises a ValueError that says what is wrong with a line of ``records.jsonl``.

    Args:
        content: the line's JSON.
        num_classes: classes are below it; None where it isn't known.
    """
    _expect(isinstance(content, dict), f"the object, as it is {json_type(content)},")
    _expect(
        _is_whole(content.get("image_id"), -math.inf, math.inf) or isinstance(content.get("image_id"), str), "image_id"
    )
    for key in ("file_name", "pan_seg_file_name"):
        _expect(isinstance(content.get(key), str), key)
    for key in ("height", "width"):
        _expect(_is_whole(content.get(key), 1, _MOST), key)
    most = _MOST if num_classes is None else num_classes - 1
    true = _segments(content, "true", most, lambda s: _is_whole(s.get("iscrowd"), 0, 1))
    predicted = _segments(content, "predicted", most, lambda s: s.get("score") is None or is_number(s["score"], 0, 1))
    areas = _overlaps(content, "overlaps", set(true), set(predicted))
    _expect(areas == (true, predicted), "overlaps, which don't add up to the segments' areas,")
    if content.get("boundary_overlaps") is not None:
        areas = _overlaps(content, "boundary_overlaps", set(true), set(predicted))
        _expect(
            [set(part) for part in areas] == [set(true), set(predicted)],
            "boundary_overlaps, which are of other segments,",
        )


def check_run(content: Any) -> None:
    """Raises a ValueError that says what is wrong with a ``run.json``: it lacks a dataset, or sound categories."""
    _expect(isinstance(content, dict), f"the object, as it is {json_type(content)},")
    _expect(isinstance(content.get("dataset"), str), "dataset")
    for key in ("weights", "config", "finished", "commit"):
        _expect(content.get(key) is None or isinstance(content[key], str), key)
    categories = content.get("categories")
    _expect(isinstance(categories, list) and bool(categories), "the list of categories")
    for number, entry in enumerate(categories):
        is_sound = (
            isinstance(entry, dict)
            and _is_whole(entry.get("id"), -math.inf, math.inf)
            and isinstance(entry.get("name"), str)
            and isinstance(entry.get("is_thing"), bool)
            and _is_color(entry.get("color"))
        )
        _expect(is_sound, f"categories[{number}]: its id, name, is_thing or color")


def is_number(value: Any, least: float, most: float) -> bool:
    """A number within bounds, and no boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _segments(
    content: dict[str, Any], key: str, most_class: int, is_sound: Callable[[dict[str, Any]], bool]
) -> dict[int, int]:
    """Area by id of the segments under ``key``."""
    segments = content.get(key)
    _expect(isinstance(segments, list), key)
    areas: dict[int, int] = {}
    for number, segment in enumerate(segments if isinstance(segments, list) else ()):
        place = f"{key}[{number}]"
        _expect(isinstance(segment, dict), place)
        _expect(_is_whole(segment.get("id"), 1, MAX_SEGMENT_ID) and segment["id"] not in areas, f"{place}.id")
        _expect(_is_whole(segment.get("class"), 0, most_class), f"{place}.class")
        _expect(_is_whole(segment.get("area"), 1, math.inf), f"{place}.area")
        _expect(is_sound(segment), f"{place}: iscrowd or score")
        areas[segment["id"]] = segment["area"]
    return areas


def _overlaps(
    content: dict[str, Any], key: str, true: set[int], predicted: set[int]
) -> tuple[dict[int, int], dict[int, int]]:
    """What the pairs under ``key`` add up to for each true and each predicted segment."""
    entries = content.get(key)
    _expect(isinstance(entries, list), key)
    sums: tuple[dict[int, int], dict[int, int]] = {}, {}
    known, seen = (true | _NO_SEGMENT, predicted | _NO_SEGMENT), set()
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        is_sound = isinstance(entry, list) and len(entry) == 3 and all(_is_whole(part, 0, _MOST) for part in entry)
        _expect(is_sound and entry[2] > 0 and (entry[0], entry[1]) not in seen, f"{key}[{number}]")
        _expect(
            entry[0] in known[0] and entry[1] in known[1],
            f"{key}[{number}], which names unknown segments,",
        )
        seen.add((entry[0], entry[1]))
        for part, segment_id in zip(sums, entry):
            if segment_id not in _NO_SEGMENT:
                part[segment_id] = part.get(segment_id, 0) + entry[2]
    return sums


def _is_whole(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int) and is_number(value, least, most)


def _is_color(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 3 and all(_is_whole(part, 0, 255) for part in value)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} is missing or wrong")
