"""Panoptic ground truth and predictions of any system: COCO panoptic JSON files, each with a folder of PNGs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from detr_d2.data.categories import Category
from detr_d2.data.coco_json import read_categories
from detr_d2.errors import MissingFileError
from detr_d2.evaluation.faults import Fault, faults_of
from detr_d2.labels.rules.annotations import category_of_rules, crowd_rules, segment_id_rules
from detr_d2.labels.rules.categories import Categories
from detr_d2.labels.rules.images import FileNames, Images, size_rules
from detr_d2.labels.rules.json_files import list_of, list_rules, objects_of, read_json
from detr_d2.labels.rules.rule import RULES, Finding, Place
from detr_d2.labels.values import is_id, is_whole, shown


@dataclass(frozen=True)
class ImageEntry:
    """An image's map: the PNG's path, and its segments with contiguous classes under "category_id"."""

    png: str
    segments: list[dict[str, Any]]


@dataclass
class PanopticFile:
    """The content of a panoptic JSON file, as far as it makes sense.

    Args:
        path: of the file.
        folder: of its PNGs.
        images: by image id; those with faults are left out.
        listed: the image ids of all annotations, with faults or without.
        sizes: height and width by image id, where 'images' tells them.
        category_names: by category id, as far as the file has them.
        faults: everything else.
    """

    path: str
    folder: str
    images: dict[Any, ImageEntry] = field(default_factory=dict)
    listed: dict[Any, None] = field(default_factory=dict)
    sizes: dict[Any, tuple[int, int]] = field(default_factory=dict)
    category_names: dict[int, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def read_ground_truth(path: str, folder: str | None = None) -> tuple[PanopticFile, list[Category]]:
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
    gt = PanopticFile(path, _folder_of(path, folder, "--gt-folder"))
    gt.category_names = {category.id: category.name for category in categories}
    if "images" in content:
        _read_sizes(content, gt)
    _read_annotations(content, gt, labels, "ground truth")
    if "images" in content:
        unknown = [image_id for image_id in gt.listed if image_id not in gt.sizes]
        text = "is in annotations, and images lacks it, or its size"
        gt.faults += [Fault(f"ground truth, image id {i}", text, RULES["image-unknown"].advice) for i in unknown]
    return gt, categories


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
        if isinstance(entry, dict) and is_whole(entry.get("id")) and isinstance(entry.get("name"), str):
            predictions.category_names[entry["id"]] = entry["name"]
    return predictions


def _folder_of(path: str, folder: str | None, option: str) -> str:
    folder = folder or path.removesuffix(".json")
    if not os.path.isdir(folder):
        raise MissingFileError(f"the PNGs of {path} aren't there: {folder} isn't a folder. Name it with {option}.")
    return folder


def _read_sizes(content: dict[str, Any], gt: PanopticFile) -> None:
    images = Images(gt.path, FileNames(None, "image-missing"))
    for number, entry in enumerate(list_of(content, "images", gt.path)):
        place = Place(gt.path, text=f"images[{number}]")
        faults = faults_of(images.id_rules(entry, place), "ground truth")
        if not faults:
            faults = faults_of(size_rules(entry, place), f"ground truth, image id {entry['id']}")
            images.add(entry)
        if not faults:
            gt.sizes[entry["id"]] = entry["height"], entry["width"]
        gt.faults += faults


def _read_annotations(content: dict[str, Any], file: PanopticFile, labels: Mapping[int, int], kind: str) -> None:
    """Fill in the images and note what is wrong with their entries; ``kind`` names the file in the faults."""
    categories = Categories([], file.path, with_isthing=False)
    categories.ids.update((category_id, category_id) for category_id in labels)
    names = FileNames(file.folder, "png-missing")
    for number, entry in enumerate(list_of(content, "annotations", file.path)):
        image_id = entry.get("image_id")
        place = Place(file.path, image_id, None, f"annotations[{number}]")
        where = f"{kind}, image id {image_id}" if is_id(image_id) else kind
        faults = faults_of(_entry_rules(entry, file, names, place), where)
        segments = objects_of(entry, "segments_info")
        if not faults:
            taken: set[int] = set()
            for index, segment in enumerate(segments):
                here = place._replace(text=f"{place.text}.segments_info[{index}]")
                faults += faults_of(_segment_rules(segment, taken, categories, here), where)
        if not faults and image_id not in file.images:
            own = [{**s, "category_id": labels[s["category_id"]]} for s in segments]
            file.images[image_id] = ImageEntry(os.path.join(file.folder, entry["file_name"]), own)
        if is_id(image_id):
            file.listed[image_id] = None
        file.faults += faults


def _entry_rules(entry: dict[str, Any], file: PanopticFile, names: FileNames, place: Place) -> Iterator[Finding]:
    """What is wrong with an annotation, but for its segments."""
    image_id = entry.get("image_id")
    if not is_id(image_id):
        yield place.found("image-unknown", f"has image_id={shown(image_id)}.")
    elif image_id in file.listed:
        yield place.found("id-duplicate", "is of an image that has its annotation already.")
        return
    yield from names.rules(entry, place)
    yield from list_rules(entry, "segments_info", place)


def _segment_rules(segment: Any, taken_: set[int], categories: Categories, place: Place) -> Iterator[Finding]:
    yield from segment_id_rules(segment, taken_, place)
    yield from category_of_rules(segment, categories, place)
    yield from crowd_rules(segment, place)
    if is_whole(segment.get("id")):
        taken_.add(segment["id"])
