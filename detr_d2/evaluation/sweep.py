"""``detr-d2 sweep``: which thresholds to set. Many are tried on each image after one forward pass."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from tqdm import tqdm

from detr_d2.arguments import add_opts, number
from detr_d2.checkpoint.categories import describe_difference
from detr_d2.checkpoint.formats import write_checkpoint
from detr_d2.checkpoint.model_file import convert, load_model
from detr_d2.checkpoint.names import OURS
from detr_d2.checkpoint.paths import weight_files
from detr_d2.checkpoint.reading import read_weights
from detr_d2.data import Category, DetrPanopticDatasetMapper, categories_of, register_from_config
from detr_d2.data.registration import dataset_files, image_files
from detr_d2.errors import ConfigError, DatasetError, WeightsError
from detr_d2.evaluation.bootstrap import bootstrap_intervals
from detr_d2.evaluation.faults import contradiction, find_faults
from detr_d2.evaluation.matching import Count, compare_maps
from detr_d2.evaluation.overlaps import GROUND_TRUTH
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.results import group_labels, group_means, percent, percents, pipe_table
from detr_d2.files import check_outputs, write_json
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling import Sizes, kept_queries, panoptic_map
from detr_d2.parallel import default_workers
from detr_d2.wording import counted

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, build_detection_test_loader

SCORES = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
OVERLAPS = (0.0, 0.5, 0.8)
#: A class with fewer true segments has the threshold of all: its own would be chance.
LEAST_SEGMENTS = 10
#: ``--store`` without a file.
_IN_PLACE = ""
_EPILOG = """\
examples:
  detr-d2 sweep output/model_final.pth --register datasets/yard/register.yaml --dataset yard_val
  detr-d2 sweep model.pth --register register.yaml --dataset my_val --scores 0.6 0.7 0.8 --store tuned.pth
  detr-d2 sweep model.pth --register register.yaml --dataset my_val --per-class --store

The network runs once for each image. What the thresholds mean: MODEL.DETR.SCORE_THRESHOLD, a segment's least class
probability; MODEL.DETR.OVERLAP_THRESHOLD, the least part of a mask that others leave to see; MODEL.DETR.
CLASS_SCORE_THRESHOLDS, one for each class. Choose them on images that the final numbers don't come from.
"""


class Setting(NamedTuple):
    """Thresholds of the panoptic map: ``MODEL.DETR.SCORE_THRESHOLD`` and ``MODEL.DETR.OVERLAP_THRESHOLD``."""

    score: float
    overlap: float


SweepResult: TypeAlias = Mapping[Setting, PanopticQuality]
"""Panoptic quality for every setting that was tried."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = (
        "Try many score and overlap thresholds after one forward pass an image; say which to set, for all classes and "
        "for each, and what is gained."
    )
    parser.epilog = _EPILOG
    parser.add_argument("weights", metavar="WEIGHTS", help="a checkpoint with masks; anything MODEL.WEIGHTS takes")
    parser.add_argument(
        "--dataset", required=True, metavar="NAME", help="a registered dataset with panoptic ground truth"
    )
    parser.add_argument("--register", metavar="FILE", help="the register.yaml that knows it")
    threshold = number(0, math.nextafter(1, 0), "a number from 0 to 1")
    for option, values in (("--scores", SCORES), ("--overlaps", OVERLAPS)):
        parser.add_argument(option, type=threshold, nargs="+", default=values, metavar="T", help=f"default: {values}")
    parser.add_argument(
        *("--store", "--write"),
        nargs="?",
        const=_IN_PLACE,
        metavar="FILE",
        help="store the thresholds in a copy of the checkpoint; without FILE in the checkpoint itself",
    )
    parser.add_argument("--per-class", action="store_true", help="store a threshold for each class, not one for all")
    parser.add_argument("--force", action="store_true", help="replace the file of --store if it is there")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    add_opts(parser, "config keys")


def run(args: argparse.Namespace) -> int:
    """Sweep, print the tables, write what is asked for."""
    copy = None if args.store == _IN_PLACE else args.store
    outputs = {"--store": copy, "--json": args.json}
    check_outputs(outputs, [*weight_files(args.weights), *([args.register] if args.register else [])])
    if copy and os.path.exists(copy) and not args.force:
        raise WeightsError(f"{copy} is there already. Name another file, or use --force to replace it.")
    if args.store == _IN_PLACE and (not os.path.isfile(args.weights) or read_weights(args.weights).origin != OURS):
        raise WeightsError(
            f"{args.weights} isn't a checkpoint file of this project, so that --store can't change it. Name a file for "
            "the copy: --store FILE."
        )
    model, cfg = _load(args.weights, args.register, args.opts)
    check_outputs(outputs, _files_of(args.dataset))
    thresholds = model.postprocess
    current = Setting(float(thresholds.score_threshold), float(thresholds.overlap_threshold))
    scores, overlaps = sorted({*args.scores, current.score}), sorted({*args.overlaps, current.overlap})
    settings = [Setting(score, overlap) for overlap in overlaps for score in scores]
    choice = choose(_sweep(model, cfg, args.dataset, settings), model.categories, current)
    print(_text(choice))
    if len(thresholds.class_score_thresholds):
        print("\nThe model has thresholds for each class; what is called now here is its threshold for all classes.")
    if args.json:
        write_json(args.json, choice)
    if args.store is not None:
        _store(args.weights, copy, [*args.opts, *_keys(choice, args.per_class)])
        print(f"\n{copy or args.weights} has them now.")
    return 0


def _files_of(dataset_name: str) -> Iterator[str]:
    """Labels and images of a dataset, which are looked at only where something is written."""
    yield from dataset_files(dataset_name)
    yield from image_files(DatasetCatalog.get(dataset_name))


def _load(weights: str, register_file: str | None, overrides: Sequence[str]) -> tuple[DetrPanoptic, CfgNode]:
    """The model and its config; the datasets of a register.yaml are registered."""
    registered = ["DATASETS.REGISTER", str([register_file])] if register_file else []
    model, cfg = load_model(weights, [*overrides, *registered])
    if model.mask_head is None:
        raise WeightsError(f"{weights} has no masks, and thresholds of a panoptic map need some. Name stage 2's file.")
    register_from_config(cfg)
    return model, cfg


def _sweep(model: DetrPanoptic, cfg: CfgNode, dataset_name: str, settings: Iterable[Setting]) -> SweepResult:
    difference = describe_difference(model.categories, categories_of(dataset_name))
    if difference:
        raise ConfigError(f"the model and {dataset_name!r} have other categories: {difference}.")
    dataset_dicts = DatasetCatalog.get(dataset_name)
    if not dataset_dicts or "pan_seg_file_name" not in dataset_dicts[0]:
        raise DatasetError(f"the dataset {dataset_name!r} has no panoptic ground truth.")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = min(cfg.DATALOADER.NUM_WORKERS, default_workers())
    loader = build_detection_test_loader(cfg, dataset_name, mapper=DetrPanopticDatasetMapper(cfg, is_train=False))
    return sweep_thresholds(model, loader, dataset_dicts, settings)


def _keys(choice: dict[str, Any], per_class: bool) -> list[str]:
    """Config keys and values of the thresholds to set."""
    values = {"SCORE_THRESHOLD": choice["best"]["score"], "OVERLAP_THRESHOLD": choice["best"]["overlap"]}
    values |= {"CLASS_SCORE_THRESHOLDS": [entry["score"] for entry in choice["classes"]] if per_class else []}
    return [word for key, value in values.items() for word in (f"MODEL.DETR.{key}", str(value))]


def _store(weights: str, copy: str | None, overrides: list[str]) -> None:
    """Write the checkpoint with other config keys to a copy, or over itself; there a training can still be resumed."""
    file = read_weights(weights)
    checkpoint = convert(file, overrides)
    target = os.path.realpath(weights) if copy is None else copy
    write_checkpoint(checkpoint if copy else {**file.rest, **checkpoint}, target)


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
    for batch in tqdm(batches, unit="batch", disable=None):
        outputs, sizes = model.detect(batch)
        for row, (item, size) in enumerate(zip(batch, sizes, strict=True)):
            if item["image_id"] not in records:
                raise DatasetError(f"the image id {item['image_id']!r} isn't one of the dataset's.")
            _add_image(model, outputs, row, size, records[item["image_id"]], result)
    return result


def _add_image(
    model: DetrPanoptic, outputs: dict[str, Any], row: int, size: Sizes, record: dict[str, Any], result: SweepResult
) -> None:
    """Add an image of a batch to the quality of each setting; settings that keep the same queries share a map."""
    gt_map, post = GROUND_TRUTH.read(record["pan_seg_file_name"]), model.postprocess
    if faults := find_faults(record, gt_map.areas(), gt_map.shape):
        raise contradiction("the ground truth", faults)
    lowest = min(setting.score for setting in result)
    _, kept, scores, classes = kept_queries(outputs["pred_logits"][row, None], lowest)
    masks = model.query_masks(outputs, torch.full_like(kept, row), kept)
    known: dict[tuple[int, float], list[Count]] = {}
    for setting, quality in result.items():
        chosen = scores > setting.score
        key = int(chosen.sum()), setting.overlap  # the best so many: equal numbers are equal sets
        if key not in known:
            candidates = masks[chosen], scores[chosen], classes[chosen]
            ids, segments = panoptic_map(*candidates, post.is_thing, size, post.min_segment_area, setting.overlap)
            predicted = ids.cpu().numpy()
            image = compare_maps(gt_map, record["segments_info"], predicted, segments, len(model.categories))
            known[key] = list(image.counts().values())
        quality.add(known[key])


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


def _text(choice: dict[str, Any]) -> str:
    """Tables for the terminal, and what to set."""
    overlaps = sorted({setting["overlap"] for setting in choice["settings"]})
    rows: dict[float, list[Any]] = {}
    for setting in sorted(choice["settings"], key=lambda one: (one["score"], one["overlap"])):
        rows.setdefault(setting["score"], [setting["score"]]).append(setting["All"])
    grid = _table([*rows.values()], ["PQ by score", *(f"overlap {overlap:g}" for overlap in overlaps)])
    keys = ("name", "true_segments", "PQ_before", "PQ", "score")
    shown = [[entry[key] for key in keys] for entry in choice["classes"] if entry["PQ"] is not None]
    classes = _table(shown, ["class", "true segments", "PQ now", "PQ then", "score threshold"])
    return f"{grid}\n\n{classes}\n\n{_advice(choice)}"


def _table(rows: list[list[Any]], headers: list[str]) -> str:
    return pipe_table(rows, headers, ["g" if "score" in header else ".1f" for header in headers])


def _advice(choice: dict[str, Any]) -> str:
    best, current = choice["best"], choice["current"]
    now = f"Now: score {current['score']:g}, overlap {current['overlap']:g}."
    lines = [f"{counted(choice['images'], 'image')}. {now}"]
    if best == current:
        lines.append("Leave them: nothing else that was tried has a higher PQ.")
    else:
        low, high = choice["gain_interval"] or (0.0, 0.0)
        real = "" if low > 0 else " That may be chance: the interval has 0 in it."
        before, after = (
            next(s["All"] for s in choice["settings"] if one.items() <= s.items()) for one in (current, best)
        )
        lines.append(
            f"Set MODEL.DETR.SCORE_THRESHOLD {best['score']:g} MODEL.DETR.OVERLAP_THRESHOLD {best['overlap']:g}: PQ "
            f"{before:.1f} to {after:.1f}, 95 % of the gain {low:+.1f} to {high:+.1f}.{real}"
        )
    own = [entry["PQ"] for entry in choice["classes"] if entry["PQ"] is not None]
    mean = sum(own) / len(own) if own else math.nan
    lines.append(
        f"With a threshold for each class: PQ {mean:.1f}, if classes don't disturb each other; evaluate to know."
    )
    lines.append(f'  MODEL.DETR.CLASS_SCORE_THRESHOLDS "{[entry["score"] for entry in choice["classes"]]}"')
    return "\n".join(lines)
