"""Panoptic quality of predictions in files, of any system: COCO panoptic JSON files, each with a folder of PNGs.

Everything that is wrong is found, and no number is given then.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.data.coco_json import read_categories
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.evaluation.faults import FaultRow, count_stale_areas, faults_of, faults_table, map_faults
from detr_d2.evaluation.matching import ComparedImage, Count
from detr_d2.evaluation.overlaps import Overlaps, segment_areas
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.labels.panoptic_png import read_map
from detr_d2.labels.rules.annotations import category_of_rules, crowd_rules, image_of_rules, segment_id_rules
from detr_d2.labels.rules.categories import Categories
from detr_d2.labels.rules.images import FileNames, Images, size_rules
from detr_d2.labels.rules.json_files import list_of, list_rules, objects_of, read_json
from detr_d2.labels.rules.rule import Finding, Place
from detr_d2.labels.values import is_id, is_whole, shown
from detr_d2.progress import progress
from detr_d2.wording import counted

#: Images that are begun before their turn, by each thread.
_AHEAD = 4
FIX_MISSING = "predict it; or --allow-missing counts it as empty, --subset leaves it out"
FIX_FOREIGN = "compare with the ground truth that has this image, or remove the prediction"


class ImageEntry(NamedTuple):
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
    faults: list[FaultRow] = field(default_factory=list)


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
    gt = PanopticFile(path, _folder_of(path, folder, "--gt-folder", "panoptic"))
    gt.category_names = {category.id: category.name for category in categories}
    images = _read_images(content, gt) if "images" in content else None
    _read_annotations(content, gt, labels, "ground truth", images)
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
    for entry in objects_of(content, "categories"):
        if isinstance(entry, dict) and is_whole(entry.get("id")) and isinstance(entry.get("name"), str):
            predictions.category_names[entry["id"]] = entry["name"]
    return predictions


def _folder_of(path: str, folder: str | None, option: str, beside: str = "") -> str:
    """The folder given; else the one that is called as the file, which is panopticapi's; else ``beside`` it."""
    usual = [path.removesuffix(".json"), *([os.path.join(os.path.dirname(path), beside)] if beside else [])]
    found = folder or next(filter(os.path.isdir, usual), usual[0])
    if not os.path.isdir(found):
        raise MissingFileError(f"the PNGs of {path} aren't there: {found} isn't a folder. Name it with {option}.")
    return found


def _read_images(content: dict[str, Any], gt_: PanopticFile) -> Images:
    """The images that are listed; their sizes, as far as they are right, are put into the file."""
    images = Images(gt_.path, FileNames(None, "image-missing"))
    for number, entry in enumerate(list_of(content, "images", gt_.path)):
        place = Place(gt_.path, text=f"images[{number}]")
        faults = faults_of(images.id_rules(entry, place), "ground truth")
        if not faults:
            faults = faults_of(size_rules(entry, place), f"ground truth, image id {entry['id']}")
            images.add(entry)
        if not faults:
            gt_.sizes[entry["id"]] = entry["height"], entry["width"]
        gt_.faults += faults
    return images


def _read_annotations(
    content: dict[str, Any], file_: PanopticFile, labels: Mapping[int, int], kind: str, listed: Images | None = None
) -> None:
    """Fill in the images and note what is wrong with their entries.

    Args:
        kind: names the file in the faults.
        listed: the images of the file, if it has some.
    """
    categories = Categories([], file_.path, with_isthing=False)
    categories.ids.update((category_id, category_id) for category_id in labels)
    names = FileNames(file_.folder, "png-missing")
    for number, entry in enumerate(list_of(content, "annotations", file_.path)):
        image_id = entry.get("image_id")
        place = Place(file_.path, image_id, None, f"annotations[{number}]")
        where = f"{kind}, image id {image_id}" if is_id(image_id) else kind
        faults = faults_of(_entry_rules(entry, file_, names, place), where)
        faults = faults or faults_of(_segments_rules(entry, categories, place), where)
        if listed is not None and is_id(image_id):
            faults += faults_of(image_of_rules(entry, listed, place), where)
        if not faults and image_id not in file_.images:
            own = [{**s, "category_id": labels[s["category_id"]]} for s in entry["segments_info"]]
            file_.images[image_id] = ImageEntry(os.path.join(file_.folder, entry["file_name"]), own)
        if is_id(image_id):
            file_.listed[image_id] = None
        file_.faults += faults


def _entry_rules(entry: dict[str, Any], file: PanopticFile, names: FileNames, place: Place) -> Iterator[Finding]:
    """What is wrong with an annotation, but for its segments, and whether its file lists the image."""
    image_id = entry.get("image_id")
    if not is_id(image_id):
        yield place.found("image-unknown", f"has image_id={shown(image_id)}.")
    elif image_id in file.listed:
        yield place.found("id-duplicate", "is of an image that has its annotation already.")
        return
    yield from names.rules(entry, place)
    yield from list_rules(entry, "segments_info", place)


def _segments_rules(entry: dict[str, Any], categories: Categories, place: Place) -> Iterator[Finding]:
    taken: set[int] = set()
    for index, segment in enumerate(entry["segments_info"]):
        here = place._replace(text=f"{place.text}.segments_info[{index}]")
        yield from segment_id_rules(segment, taken, here)
        yield from category_of_rules(segment, categories, here)
        yield from crowd_rules(segment, here)
        if is_whole(segment.get("id")):
            taken.add(segment["id"])


@dataclass
class FileQuality:
    """Panoptic quality over files, and what has to be said beside.

    Args:
        quality: of all images that were compared.
        missing: images without a prediction.
        stale_areas: true segments with another area in the JSON than in the PNG.
    """

    quality: PanopticQuality
    missing: int
    stale_areas: int = 0


def compare_files(
    gt: PanopticFile,
    predictions: PanopticFile,
    num_classes: int,
    allow_missing: bool = False,
    subset: bool = False,
    workers: int | None = None,
) -> FileQuality:
    """Compare all images, some at a time; the result doesn't depend on ``workers``.

    Args:
        gt, predictions: as read, with contiguous classes.
        num_classes: of the ground truth.
        allow_missing: count images without a prediction as predicted empty.
        subset: leave images without a prediction out.
        workers: threads that read and compare; None for one a core, at most eight.

    Raises:
        DatasetError: something is wrong with the ground truth or the predictions; all of it is listed, up to some rows.
    """
    missing = [image_id for image_id in gt.listed if image_id not in predictions.listed]
    result = FileQuality(PanopticQuality(num_classes), len(missing))
    foreign = [image_id for image_id in predictions.listed if image_id not in gt.listed]
    text = "the ground truth has no annotation of this image"
    faults = gt.faults + predictions.faults
    faults += [FaultRow(f"prediction, image id {i}", text, FIX_FOREIGN) for i in foreign]
    if not (allow_missing or subset):
        faults += [FaultRow(f"prediction, image id {i}", "there is none", FIX_MISSING) for i in missing]
    chosen = [i for i in gt.images if i in predictions.listed or not subset]
    jobs = ((i, gt.images[i], predictions.images.get(i), gt.sizes.get(i)) for i in chosen)
    with contextlib.closing(_each(jobs, workers)) as results:
        for counts, found, stale_areas in progress(results, len(chosen), "image"):
            faults += found
            result.stale_areas += stale_areas
            if counts is not None:
                result.quality.add(counts)
    if faults:
        raise DatasetError(
            f"{counted(len(faults), 'fault')}, so that no number would mean anything.\n"
            f"ground truth: {gt.path}, PNGs in {gt.folder}\n"
            f"predictions: {predictions.path}, PNGs in {predictions.folder}\n\n{faults_table(faults)}"
        )
    if not len(result.quality):
        raise DatasetError(f"there is no image to compare in {gt.path} and {predictions.path}.")
    return result


_Job = tuple[Any, ImageEntry, ImageEntry | None, tuple[int, ...] | None]
_Result = tuple[list[Count] | None, list[FaultRow], int]


def _compare_image(job: _Job) -> _Result:
    """Read and compare one image: image id, ground truth, prediction (None counts as empty), height and width.

    Returns:
        Its counts, None where it has faults; its faults; and how many areas are stale.
    """
    image_id, true, predicted, size = job
    of_true, of_predicted = f"ground truth, image id {image_id}", f"prediction, image id {image_id}"
    true_map, faults = _read_map(of_true, true)
    predicted_map: np.ndarray | None
    if predicted is None:
        shape = size if true_map is None else true_map.shape
        predicted_map, segments = np.zeros(shape or (0, 0), dtype=np.int32), []
    else:
        predicted_map, unreadable = _read_map(of_predicted, predicted)
        faults, segments = faults + unreadable, predicted.segments
    overlaps, stale = None, 0
    if true_map is not None and predicted_map is not None and true_map.shape == predicted_map.shape:
        overlaps = Overlaps(true_map, predicted_map)
    if true_map is not None:
        areas = overlaps.true_areas if overlaps else segment_areas(true_map)
        faults += map_faults(of_true, [s["id"] for s in true.segments], areas, true_map.shape, size)
        stale, size = count_stale_areas(true.segments, areas), true_map.shape
    if predicted_map is not None:
        areas, ids = overlaps.predicted_areas if overlaps else segment_areas(predicted_map), [s["id"] for s in segments]
        faults += map_faults(of_predicted, ids, areas, predicted_map.shape, size, "the ground truth")
    if overlaps is None or faults:
        return None, faults, stale
    return list(ComparedImage(overlaps, true.segments, segments).counts().values()), [], stale


def _read_map(where: str, entry: ImageEntry) -> tuple[np.ndarray | None, list[FaultRow]]:
    """A map, or what is wrong with its file."""
    ids, findings = read_map(entry.png)
    return ids, faults_of(findings, where)


def _each(jobs: Iterable[_Job], workers: int | None) -> Generator[_Result, None, None]:
    """Results in the order of the jobs. Threads do, as reading PNGs and numpy mostly run outside of Python's lock.

    Few jobs are begun ahead, and none after the generator was closed, so that an interrupted command ends at once.
    """
    count = workers or min(8, os.cpu_count() or 1)
    if count == 1:
        yield from map(_compare_image, jobs)
        return
    pool, begun = ThreadPoolExecutor(count), deque[Future[_Result]]()
    try:
        for job in jobs:
            begun.append(pool.submit(_compare_image, job))
            if len(begun) > _AHEAD * count:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
