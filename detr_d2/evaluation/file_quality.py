"""Panoptic quality of predictions in files: everything that is wrong is found first, or at once."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detr_d2.data.segments import read_panoptic_png
from detr_d2.errors import DatasetError, UserError
from detr_d2.evaluation.faults import Fault, count_stale_areas, faults_table, map_faults
from detr_d2.evaluation.matching import ComparedImage, Count
from detr_d2.evaluation.overlaps import Overlaps, segment_areas
from detr_d2.evaluation.panoptic_files import ImageEntry, PanopticFile
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.progress import progress
from detr_d2.wording import counted

#: Images that are begun before their turn, by each thread.
_AHEAD = 4
FIX_MISSING = "predict it; or --allow-missing counts it as empty, --subset leaves it out"
FIX_FOREIGN = "compare with the ground truth that has this image, or remove the prediction"
FIX_PNG = "write the PNG again, whole and in RGB"


@dataclass(frozen=True)
class ImageResult:
    """What looking at an image gave: its counts, or None and faults."""

    counts: list[Count] | None
    faults: list[Fault]
    stale_areas: int


@dataclass
class FileQuality:
    """Panoptic quality over files, and what has to be said beside.

    Args:
        quality: of all images that were compared.
        missing: images without a prediction.
        annotated: images of the ground truth that have an annotation.
        unannotated: images of the ground truth that have none.
        stale_areas: true segments with another area in the JSON than in the PNG.
    """

    quality: PanopticQuality
    missing: int = 0
    annotated: int = 0
    unannotated: int = 0
    stale_areas: int = 0
    faults: list[Fault] = field(default_factory=list)


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
    result = FileQuality(PanopticQuality(num_classes), annotated=len(gt.listed))
    result.faults = gt.faults + predictions.faults + _foreign(gt, predictions)
    missing = [image_id for image_id in gt.listed if image_id not in predictions.listed]
    result.missing = len(missing)
    result.unannotated = len(gt.sizes.keys() - gt.listed.keys())
    if not (allow_missing or subset):
        result.faults += [Fault(f"prediction, image id {i}", "there is none", FIX_MISSING) for i in missing]
    chosen = [i for i in gt.images if i in predictions.listed or not subset]
    jobs = ((i, gt.images[i], predictions.images.get(i), gt.sizes.get(i)) for i in chosen)
    with contextlib.closing(_each(jobs, workers)) as results:
        for found in progress(results, len(chosen), "image"):
            result.faults += found.faults
            result.stale_areas += found.stale_areas
            if found.counts is not None:
                result.quality.add(found.counts)
    if result.faults:
        raise DatasetError(_refusal(result.faults, gt, predictions))
    if not len(result.quality):
        raise DatasetError(f"there is no image to compare in {gt.path} and {predictions.path}.")
    return result


def compare_image(job: tuple[Any, ImageEntry, ImageEntry | None, tuple[int, int] | None]) -> ImageResult:
    """Read and compare one image: image id, ground truth, prediction (None counts as empty), height and width."""
    image_id, true, predicted, size = job
    gt_name, predicted_name = f"ground truth, image id {image_id}", f"prediction, image id {image_id}"
    true_map, faults = _read(gt_name, true)
    predicted_map: np.ndarray | None
    if predicted is None:
        shape = size if true_map is None else true_map.shape
        predicted_map, segments = np.zeros(shape or (0, 0), dtype=np.int32), []
    else:
        predicted_map, unreadable = _read(predicted_name, predicted)
        faults, segments = faults + unreadable, predicted.segments
    overlaps = None
    if true_map is not None and predicted_map is not None and true_map.shape == predicted_map.shape:
        overlaps = Overlaps(true_map, predicted_map)
    stale = 0
    if true_map is not None:
        areas = overlaps.true_areas if overlaps else segment_areas(true_map)
        faults = faults + map_faults(gt_name, _ids(true.segments), areas, true_map.shape, size)
        stale, size = count_stale_areas(true.segments, areas), (true_map.shape[0], true_map.shape[1])
    if predicted_map is not None:
        areas = overlaps.predicted_areas if overlaps else segment_areas(predicted_map)
        faults = faults + map_faults(
            predicted_name, _ids(segments), areas, predicted_map.shape, size, "the ground truth"
        )
    counts = None
    if overlaps and not faults:
        counts = list(ComparedImage(overlaps, true.segments, segments).counts().values())
    return ImageResult(counts, faults, stale)


def _read(where: str, entry: ImageEntry) -> tuple[np.ndarray | None, list[Fault]]:
    """A map, or what is wrong with its file."""
    try:
        return read_panoptic_png(entry.png), []
    except UserError as error:
        return None, [Fault(where, str(error), FIX_PNG)]


def _ids(segments: list[dict[str, Any]]) -> list[int]:
    return [segment["id"] for segment in segments]


def _each(jobs: Iterable[Any], workers: int | None) -> Generator[ImageResult, None, None]:
    """Results in the order of the jobs. Threads do, as reading PNGs and numpy mostly run outside of Python's lock.

    Few jobs are begun ahead, and none after the generator was closed, so that an interrupted command ends at once.
    """
    count = workers or min(8, os.cpu_count() or 1)
    if count == 1:
        yield from map(compare_image, jobs)
        return
    pool, begun = ThreadPoolExecutor(count), deque[Future[ImageResult]]()
    try:
        for job in jobs:
            begun.append(pool.submit(compare_image, job))
            if len(begun) > _AHEAD * count:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _foreign(gt: PanopticFile, predictions: PanopticFile) -> list[Fault]:
    """A fault for each prediction whose image the ground truth doesn't have."""
    foreign = [image_id for image_id in predictions.listed if image_id not in gt.listed]
    return [
        Fault(f"prediction, image id {i}", "the ground truth has no annotation of this image", FIX_FOREIGN)
        for i in foreign
    ]


def _refusal(faults: list[Fault], gt: PanopticFile, predictions: PanopticFile) -> str:
    return (
        f"{counted(len(faults), 'fault')}, so that no number would mean anything.\n"
        f"ground truth: {gt.path}, PNGs in {gt.folder}\n"
        f"predictions: {predictions.path}, PNGs in {predictions.folder}\n\n{faults_table(faults)}"
    )
