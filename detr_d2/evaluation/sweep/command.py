"""``detr-d2 sweep``: which thresholds to set."""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

from detr_d2.arguments import add_opts, number
from detr_d2.checkpoint.categories import describe_difference
from detr_d2.checkpoint.convert_command import convert
from detr_d2.checkpoint.formats import write_checkpoint
from detr_d2.checkpoint.model_file import load_model
from detr_d2.checkpoint.names import OURS
from detr_d2.checkpoint.paths import weight_files
from detr_d2.checkpoint.reading import read_weights
from detr_d2.data import DetrPanopticDatasetMapper, categories_of, register_from_config
from detr_d2.data.registration import dataset_files, image_files
from detr_d2.errors import ConfigError, DatasetError, WeightsError
from detr_d2.evaluation.results import pipe_table
from detr_d2.evaluation.sweep.sweeping import Setting, SweepResult, choose, sweep_thresholds
from detr_d2.files import check_outputs, write_json
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.wording import counted

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, build_detection_test_loader

logger = logging.getLogger(__name__)

SCORES = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
OVERLAPS = (0.0, 0.5, 0.8)
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
    if args.store == _IN_PLACE:
        _require_own_file(args.weights)
    model, cfg = _load(args.weights, args.register, args.opts)
    check_outputs(outputs, _files_of(args.dataset))
    thresholds = model.postprocess
    current = Setting(float(thresholds.score_threshold), float(thresholds.overlap_threshold))
    scores, overlaps = sorted({*args.scores, current.score}), sorted({*args.overlaps, current.overlap})
    result = _sweep(model, cfg, args.dataset, scores, overlaps)
    choice = choose(result, model.categories, current)
    print(_text(choice))
    if len(thresholds.class_score_thresholds):
        print("\nThe model has thresholds for each class; what is called now here is its threshold for all classes.")
    if args.json:
        write_json(args.json, choice)
    if args.store is not None:
        print(f"\n{_store(args.weights, copy, [*args.opts, *_keys(choice, args.per_class)])} has them now.")
    return 0


def _require_own_file(weights: str) -> None:
    """Thresholds are stored in a checkpoint of this project only; others don't have a place for them."""
    if not os.path.isfile(weights) or read_weights(weights).origin != OURS:
        raise WeightsError(
            f"{weights} isn't a checkpoint file of this project, so that --store can't change it. Name a file for the "
            "copy: --store FILE."
        )


def _store(weights: str, copy: str | None, overrides: list[str]) -> str:
    """Write the checkpoint with other config keys to a copy, or over itself; there a training can still be resumed."""
    file = read_weights(weights)
    checkpoint = convert(file, overrides)
    target = os.path.realpath(weights) if copy is None else copy
    write_checkpoint(checkpoint if copy else {**file.rest, **checkpoint}, target)
    return copy or weights


def _files_of(dataset_name: str) -> Iterator[str]:
    """Labels and images of a dataset."""
    yield from dataset_files(dataset_name)
    yield from image_files(DatasetCatalog.get(dataset_name))


def _load(weights: str, register_file: str | None, overrides: Sequence[str]) -> tuple[DetrPanoptic, CfgNode]:
    """The model and its config; the datasets of a register.yaml are registered."""
    registered = ["DATASETS.REGISTER", f"['{register_file}']"] if register_file else []
    model, cfg = load_model(weights, [*overrides, *registered])
    if model.mask_head is None:
        raise WeightsError(f"{weights} has no masks, and thresholds of a panoptic map need some. Name stage 2's file.")
    register_from_config(cfg)
    return model, cfg


def _sweep(
    model: DetrPanoptic, cfg: CfgNode, dataset_name: str, scores: Sequence[float], overlaps: Sequence[float]
) -> SweepResult:
    difference = describe_difference(model.categories, categories_of(dataset_name))
    if difference:
        raise ConfigError(f"the model and {dataset_name!r} have other categories: {difference}.")
    dataset_dicts = DatasetCatalog.get(dataset_name)
    if not dataset_dicts or "pan_seg_file_name" not in dataset_dicts[0]:
        raise DatasetError(f"the dataset {dataset_name!r} has no panoptic ground truth.")
    loader = build_detection_test_loader(cfg, dataset_name, mapper=DetrPanopticDatasetMapper(cfg, is_train=False))
    settings = [Setting(score, overlap) for overlap in overlaps for score in scores]
    return sweep_thresholds(model, loader, dataset_dicts, settings)


def _keys(choice: dict[str, Any], per_class: bool) -> list[str]:
    """Config keys and values of the thresholds to set."""
    values = {"SCORE_THRESHOLD": choice["best"]["score"], "OVERLAP_THRESHOLD": choice["best"]["overlap"]}
    values |= {"CLASS_SCORE_THRESHOLDS": _class_scores(choice) if per_class else []}
    return [word for key, value in values.items() for word in (f"MODEL.DETR.{key}", str(value))]


def _class_scores(choice: dict[str, Any]) -> list[float]:
    return [entry["score"] for entry in choice["classes"]]


def _text(choice: dict[str, Any]) -> str:
    overlaps = sorted({setting["overlap"] for setting in choice["settings"]})
    rows: dict[float, list[Any]] = {}
    for setting in sorted(choice["settings"], key=lambda one: (one["score"], one["overlap"])):
        rows.setdefault(setting["score"], [setting["score"]]).append(setting["All"])
    grid = _table([*rows.values()], ["PQ by score", *(f"overlap {overlap:g}" for overlap in overlaps)])
    keys = ("name", "true_segments", "PQ_before", "PQ", "score")
    shown = [[entry[key] for key in keys] for entry in choice["classes"] if entry["PQ"] is not None]
    classes = _table(shown, ["class", "true segments", "PQ now", "PQ then", "score threshold"])
    return f"{grid}\n\n{classes}\n\n{_advice(choice)}"


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
    lines.append(f'  MODEL.DETR.CLASS_SCORE_THRESHOLDS "{_class_scores(choice)}"')
    return "\n".join(lines)


def _table(rows: list[list[Any]], headers: list[str]) -> str:
    return pipe_table(rows, headers, ["g" if "score" in header else ".1f" for header in headers])
