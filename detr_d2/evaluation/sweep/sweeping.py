"""One forward pass for each image, and panoptic maps for many thresholds from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from detr_d2.errors import DatasetError
from detr_d2.evaluation.ground_truth import find_faults
from detr_d2.evaluation.ground_truth_maps import GROUND_TRUTH
from detr_d2.evaluation.matching import Count, compare_maps
from detr_d2.evaluation.overlaps import RunMap
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling import Sizes, kept_queries, panoptic_map


class Setting(NamedTuple):
    """Thresholds of the panoptic map: ``MODEL.DETR.SCORE_THRESHOLD`` and ``MODEL.DETR.OVERLAP_THRESHOLD``."""

    score: float
    overlap: float


@dataclass
class SweepResult:
    """Panoptic quality for every setting.

    Args:
        settings: all that were tried.
        quality: of each, in the same order.
    """

    settings: list[Setting]
    quality: list[PanopticQuality]


class Candidates(NamedTuple):
    """What an image's panoptic maps are made of.

    Args:
        masks: (N, h, w) logits of the queries above the lowest threshold.
        scores, classes: (N,).
        sizes: of the batch's tensor, of the image in it, and of the original image.
    """

    masks: Tensor
    scores: Tensor
    classes: Tensor
    sizes: Sizes


@torch.no_grad()
def sweep_thresholds(
    model: DetrPanoptic,
    batches: Iterable[list[dict[str, Any]]],
    dataset_dicts: Sequence[dict[str, Any]],
    settings: Iterable[Setting],
) -> SweepResult:
    """Panoptic quality of a model for many thresholds.

    A map is that which the model itself would give with the thresholds, so that the numbers are those of an evaluation.

    Args:
        model: with a mask head, in evaluation mode.
        batches: of a test loader.
        dataset_dicts: the dataset's, with their ground truth.
        settings: thresholds to try.

    Raises:
        DatasetError: the ground truth contradicts itself, or an image isn't the dataset's.
    """
    tried, count = list(settings), len(model.categories)
    result = SweepResult(tried, [PanopticQuality(count) for _ in tried])
    records = {record["image_id"]: record for record in dataset_dicts}
    lowest = min(setting.score for setting in tried)
    for batch in tqdm(batches, unit="batch", disable=None):
        for item, candidates in zip(batch, find_candidates(model, batch, lowest), strict=True):
            if item["image_id"] not in records:
                raise DatasetError(f"the image id {item['image_id']!r} isn't one of the dataset's.")
            record = records[item["image_id"]]
            for quality, counts in zip(result.quality, _image_counts(model, candidates, record, tried), strict=True):
                quality.add(counts)
    return result


def find_candidates(model: DetrPanoptic, batch: list[dict[str, Any]], threshold: float) -> Iterator[Candidates]:
    """For each image of a batch the queries above a threshold, with their masks; one forward pass."""
    outputs, sizes = model.detect(batch)
    for i, size in enumerate(sizes):
        _, kept, scores, classes = kept_queries(outputs["pred_logits"][i, None], threshold)
        yield Candidates(model.query_masks(outputs, torch.full_like(kept, i), kept), scores, classes, size)


def _image_counts(
    model: DetrPanoptic, candidates: Candidates, record: dict[str, Any], settings: Sequence[Setting]
) -> Iterator[list[Count]]:
    """What an image adds for each setting; settings that keep the same queries share a map."""
    gt_map = GROUND_TRUTH.read(record["pan_seg_file_name"])
    faults = find_faults(record, gt_map.areas(), gt_map.shape)
    if faults:
        shown = "\n".join(f"  {fault}" for fault in faults)
        raise DatasetError(f"the ground truth contradicts itself, so that no number would mean anything:\n{shown}")
    known: dict[tuple[int, float], list[Count]] = {}
    for setting in settings:
        chosen = candidates.scores > setting.score
        key = int(chosen.sum()), setting.overlap  # the best so many: equal numbers are equal sets
        if key not in known:
            known[key] = _counts(model, candidates, chosen, setting.overlap, gt_map, record)
        yield known[key]


def _counts(
    model: DetrPanoptic,
    candidates: Candidates,
    chosen: Tensor,
    overlap: float,
    gt_map: RunMap,
    record: dict[str, Any],
) -> list[Count]:
    ids, segments = panoptic_map(
        candidates.masks[chosen],
        candidates.scores[chosen],
        candidates.classes[chosen],
        model.postprocess.is_thing,
        candidates.sizes,
        model.postprocess.min_segment_area,
        overlap,
    )
    image = compare_maps(gt_map, record["segments_info"], ids.cpu().numpy(), segments, len(model.categories))
    return list(image.counts().values())
