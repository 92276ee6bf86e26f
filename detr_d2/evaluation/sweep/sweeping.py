"""One forward pass for each image, panoptic maps for many thresholds from it, and which of the thresholds to set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm

from detr_d2.data import Category
from detr_d2.errors import DatasetError
from detr_d2.evaluation.bootstrap import bootstrap_intervals
from detr_d2.evaluation.faults import find_faults
from detr_d2.evaluation.ground_truth_maps import GROUND_TRUTH
from detr_d2.evaluation.matching import Count, compare_maps
from detr_d2.evaluation.overlaps import RunMap
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.results import group_labels, group_means, percent, percents
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling import Sizes, kept_queries, panoptic_map


class Setting(NamedTuple):
    """Thresholds of the panoptic map: ``MODEL.DETR.SCORE_THRESHOLD`` and ``MODEL.DETR.OVERLAP_THRESHOLD``."""

    score: float
    overlap: float


SweepResult: TypeAlias = Mapping[Setting, PanopticQuality]
"""Panoptic quality for every setting that was tried."""

#: A class with fewer true segments has the threshold of all: its own would be chance.
LEAST_SEGMENTS = 10


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
    result = {setting: PanopticQuality(len(model.categories)) for setting in settings}
    records = {record["image_id"]: record for record in dataset_dicts}
    lowest = min(setting.score for setting in result)
    for batch in tqdm(batches, unit="batch", disable=None):
        for item, candidates in zip(batch, find_candidates(model, batch, lowest), strict=True):
            if item["image_id"] not in records:
                raise DatasetError(f"the image id {item['image_id']!r} isn't one of the dataset's.")
            record = records[item["image_id"]]
            for setting, counts in _image_counts(model, candidates, record, result):
                result[setting].add(counts)
    return result


def find_candidates(model: DetrPanoptic, batch: list[dict[str, Any]], threshold: float) -> Iterator[Candidates]:
    """For each image of a batch the queries above a threshold, with their masks; one forward pass."""
    outputs, sizes = model.detect(batch)
    for i, size in enumerate(sizes):
        _, kept, scores, classes = kept_queries(outputs["pred_logits"][i, None], threshold)
        yield Candidates(model.query_masks(outputs, torch.full_like(kept, i), kept), scores, classes, size)


def _image_counts(
    model: DetrPanoptic, candidates: Candidates, record: dict[str, Any], settings: Iterable[Setting]
) -> Iterator[tuple[Setting, list[Count]]]:
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
        yield setting, known[key]


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


def choose(
    result: SweepResult, categories: Sequence[Category], current: Setting, resamples: int = 1000
) -> dict[str, Any]:
    """The settings with the highest PQ, of equal ones that nearest to the current one; and what speaks for them.

    Args:
        result: of the sweep, which has tried ``current`` as well.
        categories: by contiguous class.
        current: the model's own.
        resamples: draws for the interval of the gain.

    Returns:
        "images"; "settings", all with their PQ; "current" and "best", each score and overlap; "gain_interval"; and
        "classes": for each its threshold at the best overlap ("score") and its PQ with that (others at theirs may
        change it a little) and now. All in percent, None where there is nothing to judge.
    """
    is_thing = [category.is_thing for category in categories]
    groups = group_labels(is_thing)
    best = _best({setting: quality.average(groups["All"]).pq for setting, quality in result.items()}, current)
    gain = bootstrap_intervals(result[best], groups, resamples, before=result[current]).groups["All"][0]
    of_overlap = {setting: quality for setting, quality in result.items() if setting.overlap == best.overlap}
    classes = []
    for label, category in enumerate(categories):
        segments = int(result[best].true_positives[label] + result[best].false_negatives[label])
        qualities = {setting: quality.of_class(label).pq for setting, quality in of_overlap.items()}
        own = _best(qualities, best) if segments >= LEAST_SEGMENTS else best
        before = result[current].of_class(label).pq
        entry = {"name": category.name, "true_segments": segments, "score": own.score}
        classes.append({**entry, "PQ": percent(qualities[own]), "PQ_before": percent(before)})
    settings = [
        {**setting._asdict(), **{name: percent(mean.pq) for name, mean in group_means(quality, is_thing).items()}}
        for setting, quality in result.items()
    ]
    about = {"images": len(result[best]), "settings": settings, "current": current._asdict(), "best": best._asdict()}
    return {**about, "gain_interval": percents(gain), "classes": classes}


def _best(qualities: Mapping[Setting, float], near: Setting) -> Setting:
    """The setting of the highest quality; of equal ones the nearest to another one."""

    def rank(setting: Setting) -> tuple[float, float]:
        quality = qualities[setting]
        distance = abs(setting.score - near.score) + abs(setting.overlap - near.overlap)
        return -1.0 if math.isnan(quality) else quality, -distance

    return max(qualities, key=rank)
