"""What an evaluation keeps of each image, in a folder: segments and how they overlap, a small map of the prediction.

All numbers come from these records, so that they can be looked at again, split up and compared without the model:
``detr-d2 report`` and ``detr-d2 compare`` do. What is read may be cut off, or of another hand, and is checked.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from detr_d2.data.categories import Category
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.evaluation.matching import ComparedImage
from detr_d2.evaluation.overlaps import INSIDE, VOID, Overlaps
from detr_d2.files import open_regular
from detr_d2.labels.image_reading import open_image
from detr_d2.labels.rules.json_files import json_type
from detr_d2.labels.values import MAX_SEGMENT_ID, color_of, is_id, is_number, is_whole

#: The files of an evaluation's folder.
RECORDS_FILE, PREVIEWS_FILE, RUN_FILE = "records.jsonl", "previews.zip", "run.json"
#: The long side of a preview, at most.
PREVIEW_SIDE = 320
#: Previews are far smaller; more isn't unpacked.
_MOST_BYTES, _MOST_SIDE = 2**24, 2**12


@dataclass(frozen=True)
class EvaluationRecord:
    """One image's true and predicted segments; classes are contiguous, areas and overlaps in pixels.

    Args:
        image_id: of the dataset.
        file_name, pan_seg_file_name: paths of the image and of its true map.
        height, width: of the image.
        true: the true segments: "id", "class", "area" (of the map), "iscrowd".
        predicted: the predicted ones: "id", "class", "area", "score" (None: it has none).
        overlaps: true id, predicted id and pixels of each pair that meets; 0 is void on either side.
        boundary_overlaps: the same of the boundaries, see :func:`.overlaps.boundary_map`; None: not counted.
    """

    image_id: Any
    file_name: str
    height: int
    width: int
    pan_seg_file_name: str
    true: list[dict[str, Any]]
    predicted: list[dict[str, Any]]
    overlaps: list[list[int]]
    boundary_overlaps: list[list[int]] | None = None

    def as_line(self) -> bytes:
        """A line of ``records.jsonl``."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode() + b"\n"

    @cached_property
    def compared(self) -> ComparedImage:
        """The segments and their overlaps, to be asked."""
        true = [{"id": s["id"], "category_id": s["class"], "iscrowd": s["iscrowd"]} for s in self.true]
        predicted = [{"id": s["id"], "category_id": s["class"]} for s in self.predicted]
        return ComparedImage(Overlaps.of_pairs(self.overlaps), true, predicted)

    @cached_property
    def boundary_pixels(self) -> Overlaps | None:
        """The boundaries' overlaps, to be asked."""
        return None if self.boundary_overlaps is None else Overlaps.of_pairs(self.boundary_overlaps)

    @property
    def scores(self) -> dict[int, float | None]:
        """The score of each predicted segment, where it has one."""
        return {s["id"]: s.get("score") for s in self.predicted}


def make_record(
    dataset_dict: Mapping[str, Any],
    overlaps: Overlaps,
    predicted_segments: Sequence[Mapping[str, Any]],
    boundaries: Overlaps | None = None,
) -> EvaluationRecord:
    """The record of an image that has been compared.

    Args:
        dataset_dict: the dataset's dict, with the true ``segments_info``.
        overlaps: of the true and the predicted map.
        predicted_segments: each with "id", "category_id" (contiguous) and perhaps "score".
        boundaries: overlaps of the boundaries.
    """
    true = [
        {
            **{"id": s["id"], "class": s["category_id"], "area": overlaps.true_areas[s["id"]]},
            "iscrowd": int(s.get("iscrowd", 0)),
        }
        for s in dataset_dict["segments_info"]
    ]
    predicted = [
        {
            **{"id": int(s["id"]), "class": int(s["category_id"]), "area": overlaps.predicted_areas[s["id"]]},
            "score": finite(s.get("score")),
        }
        for s in predicted_segments
    ]
    return EvaluationRecord(
        dataset_dict["image_id"],
        str(dataset_dict["file_name"]),
        dataset_dict["height"],
        dataset_dict["width"],
        str(dataset_dict["pan_seg_file_name"]),
        true,
        predicted,
        overlaps.as_entries(),
        None if boundaries is None else boundaries.as_entries(),
    )


def finite(score: Any) -> float | None:
    """A score for JSON, which has no NaN."""
    return float(score) if score is not None and math.isfinite(score) else None


def encode_preview(predicted_map: np.ndarray, predicted_segments: Sequence[Mapping[str, Any]]) -> bytes:
    """A small label map of a prediction as a grey PNG, of 8 or 16 bits: 1 + the place of the segment, 0 is void.

    Args:
        predicted_map: (H, W) ids.
        predicted_segments: in the order of the record's ``predicted``.
    """
    ids = np.array([VOID, *(s["id"] for s in predicted_segments)], dtype=np.int64)
    step = max(1, -(-max(predicted_map.shape) // PREVIEW_SIDE))
    order = np.argsort(ids)
    labels = order[np.searchsorted(ids, predicted_map[::step, ::step], sorter=order)]
    buffer = io.BytesIO()
    Image.fromarray(labels.astype(np.uint8 if len(ids) <= 2**8 else np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


class EvaluationFolder:
    """A folder that ``train_net.py --eval-only`` wrote for one dataset.

    Args:
        path: the folder that has ``records.jsonl`` and ``run.json``.

    Raises:
        MissingFileError, DatasetError: see :func:`read_run`; where records are read, see :func:`read_records`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = read_run(path)
        self.categories = [
            Category(c["id"], c["name"], c["is_thing"], tuple(c["color"])) for c in self.run["categories"]
        ]

    def records(self) -> Iterator[EvaluationRecord]:
        """One image after another."""
        return read_records(self.path, len(self.categories))

    def own_files(self) -> list[str]:
        """The files that the evaluation wrote and that are read."""
        return [str(self.path / name) for name in (RUN_FILE, RECORDS_FILE, PREVIEWS_FILE)]

    def image_files(self) -> Iterator[str]:
        """The images and PNGs of its dataset."""
        for record in self.records():
            yield from (record.file_name, record.pan_seg_file_name)

    def preview(self, image_id: Any) -> np.ndarray | None:
        """The small map of a prediction (h, w), or None where there is none that can be read."""
        try:
            with open_regular(self.path / PREVIEWS_FILE) as file, zipfile.ZipFile(file) as archive:
                entry = archive.getinfo(f"{image_id}.png")
                content = archive.read(entry) if entry.file_size <= _MOST_BYTES else b""
            with open_image(io.BytesIO(content)) as image:
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
        if found := sorted(path.parent for path in run.glob(pattern)):
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
    with open_regular(path) as file:
        for number, line in enumerate(file, 1):
            try:
                yield _checked_record(json.loads(line), num_classes or 2**31)
            except (ValueError, RecursionError) as error:
                raise DatasetError(f"{path}, line {number} isn't a record: {error}. Evaluate anew.") from error


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


Checks: TypeAlias = Mapping[str, Callable[[Any], bool]]


def _whole(least: int, end: int) -> Callable[[Any], bool]:
    return lambda value: is_whole(value) and least <= value < end


def _kind(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


#: What the keys of an evaluation's files may be; sides of images and sums of pixels fit into 32 bits and 63.
_RUN: Checks = {
    "dataset": _kind(str),
    **dict.fromkeys(("weights", "config", "finished", "commit"), _kind(str, type(None))),
    "categories": lambda value: isinstance(value, list) and bool(value),
}
_CATEGORY: Checks = {
    "id": is_whole,
    "name": _kind(str),
    "is_thing": _kind(bool),
    "color": lambda value: color_of(value) is not None,
}
_RECORD: Checks = {
    "image_id": is_id,
    **dict.fromkeys(("file_name", "pan_seg_file_name"), _kind(str)),
    **dict.fromkeys(("height", "width"), _whole(1, 2**31)),
    **dict.fromkeys(("true", "predicted", "overlaps"), _kind(list)),
    "boundary_overlaps": _kind(list, type(None)),
}
_SEGMENT: Checks = {"id": _whole(1, MAX_SEGMENT_ID + 1), "area": _whole(1, 2**63)}
_OWN: dict[str, Checks] = {
    "true": {"iscrowd": _whole(0, 2)},
    "predicted": {"score": lambda value: value is None or (is_number(value) and 0 <= value <= 1)},
}
_IS_COUNT = _whole(0, 2**31)


def _check(content: Any, checks: Checks, prefix: str = "") -> None:
    """Raises a ValueError that names the first key of an object which isn't what it may be."""
    if not isinstance(content, dict):
        raise ValueError(f"{prefix or 'the object'} is {json_type(content)}")
    for key, is_sound in checks.items():
        if not is_sound(content.get(key)):
            raise ValueError(f"{prefix}{key} is missing or wrong")


def _checked_record(content: Any, num_classes: int) -> EvaluationRecord:
    """A line of ``records.jsonl``; raises a ValueError that says what is wrong with it."""
    _check(content, _RECORD)
    for key, own in _OWN.items():
        checks = {**_SEGMENT, "class": _whole(0, num_classes), **own}
        for number, segment in enumerate(content[key]):
            _check(segment, checks, f"{key}[{number}].")
    for entry in (*content["overlaps"], *(content.get("boundary_overlaps") or ())):
        if not (isinstance(entry, list) and len(entry) == 3 and all(map(_IS_COUNT, entry)) and entry[2]):
            raise ValueError(f"{entry!r:.80} is no overlap")
    record = EvaluationRecord(**{field.name: content.get(field.name) for field in fields(EvaluationRecord)})
    areas = [{segment["id"]: segment["area"] for segment in content[key]} for key in _OWN]
    if len(areas[0]) < len(record.true) or len(areas[1]) < len(record.predicted):
        raise ValueError("an id is there twice")
    if _areas(record.compared.overlaps, record.overlaps) != areas:
        raise ValueError("overlaps don't add up to the segments' areas")
    boundaries = record.boundary_pixels
    of_boundaries = areas if boundaries is None else _areas(boundaries, record.boundary_overlaps)
    if [part.keys() for part in of_boundaries] != [part.keys() for part in areas]:
        raise ValueError("boundary_overlaps are of other segments")
    return record


def _areas(overlaps: Overlaps, entries: Sequence[Any] | None) -> list[dict[int, int]]:
    """Pixels of each true and of each predicted segment, from overlaps made of ``entries``."""
    if len(overlaps.pairs) < len(entries or ()):
        raise ValueError("a pair of segments overlaps twice")
    both = (overlaps.true_areas, overlaps.predicted_areas)
    return [{i: pixels for i, pixels in areas.items() if i not in (VOID, INSIDE)} for areas in both]
