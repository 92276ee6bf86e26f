"""Panoptic truth and predictions of any system: COCO panoptic JSON files, each with a folder of PNGs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from detr_d2.data.categories import Category
from detr_d2.data.coco_json import read_categories
from detr_d2.errors import MissingFileError
from detr_d2.evaluation.faults import CURE_TWICE, CURE_VOID, Fault
from detr_d2.labels.json_reading import json_type, list_of, read_json
from detr_d2.labels.panoptic_ids import MAX_SEGMENT_ID

CURE_ENTRY = "give every entry an image_id, the file_name of its PNG and a list segments_info"
CURE_CATEGORY = "use the category ids of the ground truth's categories"
CURE_CROWD = "iscrowd is 0 or 1"
CURE_IMAGES = "list every picture once in 'images', with its id, width and height"


@dataclass(frozen=True)
class PictureEntry:
    """An image's map: the PNG's path, and its segments with contiguous classes under "category_id"."""

    png: str
    segments: list[dict[str, Any]]


@dataclass
class PanopticFile:
    """The content of a panoptic JSON file, as far as it makes sense.

    Args:
        path: of the file.
        folder: of its PNGs.
        pictures: by image id; those with faults are left out.
        listed: the image ids of all annotations, with faults or without.
        sizes: height and width by image id, where 'images' tells them.
        category_names: by category id, as far as the file has them.
        faults: everything else.
    """

    path: str
    folder: str
    pictures: dict[Any, PictureEntry] = field(default_factory=dict)
    listed: dict[Any, None] = field(default_factory=dict)
    sizes: dict[Any, tuple[int, int]] = field(default_factory=dict)
    category_names: dict[int, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def read_truth(path: str, folder: str | None = None) -> tuple[PanopticFile, list[Category]]:
    """The ground truth, and its categories in the order of the file, which is that of the contiguous classes.

    Args:
        path: of the JSON file.
        folder: of the PNGs; None for the path without .json.

    Raises:
        MissingFileError: file or folder isn't there.
        DatasetError: it isn't JSON, or lacks annotations or sound categories.
    """
    content = read_json(path, "Name the ground truth's panoptic JSON file.")
    categories = read_categories(content, path)
    labels = {category.id: label for label, category in enumerate(categories)}
    truth = PanopticFile(path, _folder_of(path, folder, "--gt-folder"))
    truth.category_names = {category.id: category.name for category in categories}
    if "images" in content:
        _read_sizes(content, truth)
    _read_annotations(content, truth, labels, "truth")
    if "images" in content:
        unknown = [image_id for image_id in truth.listed if image_id not in truth.sizes]
        truth.faults += [
            Fault(f"truth, image id {image_id}", "isn't in 'images', or has no size there", CURE_IMAGES)
            for image_id in unknown
        ]
    return truth, categories


def read_predictions(path: str, folder: str | None, labels: Mapping[int, int]) -> PanopticFile:
    """Predictions for a ground truth; of the file only ``annotations`` counts.

    Args:
        path: of the JSON file.
        folder: of the PNGs; None for the path without .json.
        labels: contiguous class of each category id of the ground truth.

    Raises:
        MissingFileError: file or folder isn't there.
        DatasetError: it isn't JSON, or lacks annotations.
    """
    content = read_json(path, "Name the predictions' panoptic JSON file.")
    predictions = PanopticFile(path, _folder_of(path, folder, "--pred-folder"))
    _read_annotations(content, predictions, labels, "prediction")
    entries = content.get("categories")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and _is_whole(entry.get("id")) and isinstance(entry.get("name"), str):
            predictions.category_names[entry["id"]] = entry["name"]
    return predictions


def _folder_of(path: str, folder: str | None, option: str) -> str:
    folder = folder or path.removesuffix(".json")
    if not os.path.isdir(folder):
        raise MissingFileError(f"the PNGs of {path} aren't there: {folder} isn't a folder. Name it with {option}.")
    return folder


def _read_sizes(content: dict[str, Any], truth: PanopticFile) -> None:
    seen = set()
    for number, entry in enumerate(list_of(content, "images", truth.path)):
        image_id = entry.get("id")
        height, width = entry.get("height"), entry.get("width")
        if not _is_id(image_id):
            text = f"images[{number}] has id={image_id!r}; an id is a whole number or a word"
            truth.faults.append(Fault("truth", text, CURE_IMAGES))
        elif image_id in seen:
            truth.faults.append(Fault(f"truth, image id {image_id}", "is more than once in 'images'", CURE_IMAGES))
        elif _is_whole(height) and _is_whole(width):
            truth.sizes[image_id] = height, width
        if _is_id(image_id):
            seen.add(image_id)


def _read_annotations(content: dict[str, Any], file: PanopticFile, labels: Mapping[int, int], kind: str) -> None:
    """Fill in the images and note what is wrong with their entries; ``kind`` names the file in the faults."""
    for number, entry in enumerate(list_of(content, "annotations", file.path)):
        image_id, name, segments = (entry.get(key) for key in ("image_id", "file_name", "segments_info"))
        place = f"{kind}, image id {image_id}" if _is_id(image_id) else f"{kind}, annotations[{number}]"
        if not _is_id(image_id):
            file.faults.append(Fault(place, f"has image_id={_brief(image_id)}", CURE_ENTRY))
            continue
        if image_id in file.listed:
            text = f"annotations[{number}] is of an image id that an earlier one has"
            file.faults.append(Fault(place, text, "keep one annotation for each picture"))
            continue
        file.listed[image_id] = None
        if not isinstance(name, str) or not name:
            file.faults.append(Fault(place, f"has file_name={_brief(name)}", CURE_ENTRY))
        elif not isinstance(segments, list):
            file.faults.append(Fault(place, f"has segments_info={_brief(segments)}", CURE_ENTRY))
        else:
            faults = [fault for s in segments for fault in _segment_faults(s, labels, place)] + _repeated(
                segments, place
            )
            file.faults += faults
            if not faults:
                own = [{**s, "category_id": labels[s["category_id"]]} for s in segments]
                file.pictures[image_id] = PictureEntry(os.path.join(file.folder, name), own)


def _segment_faults(segment: Any, labels: Mapping[int, int], place: str) -> list[Fault]:
    if not isinstance(segment, dict):
        return [Fault(place, f"segments_info has {json_type(segment)} in it", CURE_ENTRY)]
    segment_id, category_id, crowd = segment.get("id"), segment.get("category_id"), segment.get("iscrowd", 0)
    faults = []
    if not _is_whole(segment_id) or not 1 <= segment_id <= MAX_SEGMENT_ID:
        faults.append(Fault(place, f"a segment has id={_brief(segment_id)}", CURE_VOID))
    if not _is_whole(category_id) or category_id not in labels:
        text = f"segment {_brief(segment_id)} has the unknown category_id={_brief(category_id)}"
        faults.append(Fault(place, text, CURE_CATEGORY))
    if not isinstance(crowd, int) or crowd not in (0, 1):
        faults.append(Fault(place, f"segment {_brief(segment_id)} has iscrowd={_brief(crowd)}", CURE_CROWD))
    return faults


def _repeated(segments: list[Any], place: str) -> list[Fault]:
    """A fault for each id that several segments have."""
    times: dict[int, int] = {}
    for segment in segments:
        if isinstance(segment, dict) and _is_whole(segment.get("id")):
            times[segment["id"]] = times.get(segment["id"], 0) + 1
    return [Fault(place, f"segment {i} is {n} times in the JSON", CURE_TWICE) for i, n in times.items() if n > 1]


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, str)


def _brief(value: Any) -> str:
    """A value for a message; long ones are cut."""
    text = repr(value)
    return text if len(text) <= 40 else text[:36] + " ..."
