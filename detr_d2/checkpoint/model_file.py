"""A model from its file alone: no dataset has to be registered, no config be at hand.

``detr-d2 convert-weights`` writes any weights as a checkpoint that such a model comes from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from detr_d2.arguments import add_opts
from detr_d2.config import check_architecture, check_device, check_values, get_config_file, load_config, override_
from detr_d2.data import Category, coco_categories
from detr_d2.data.registration import DatasetEntry, register_entry
from detr_d2.errors import ConfigError, MissingFileError, WeightsError
from detr_d2.files import check_outputs
from detr_d2.wording import counted

from detectron2.config import CfgNode
from detectron2.modeling import build_model

from .categories import WEIGHT, HeadClass, chosen_rows, head_classes, normalised, to_record
from .checkpointer import DetrCheckpointer, with_record
from .formats import write_checkpoint
from .names import OURS, UNKNOWN
from .paths import weight_files
from .reading import RECORD, WeightsFile, read_weights
from .recipe import apply_recipe_, deduced_recipe, model_recipe

if TYPE_CHECKING:
    from detr_d2.meta_arch import DetrPanoptic

_EPILOG = """\
examples:
  detr-d2 convert-weights detr-r50-panoptic-00ce5173.pth detr_panoptic.pth
  detr-d2 convert-weights folder-saved-by-huggingface detr.pth
  detr-d2 convert-weights dc5.pth detr_dc5.pth --opts MODEL.RESNETS.RES5_DILATION 2

OUT holds tensors and plain data under this project's names: classes with their names, no-object last, and the config
keys that build the model, so that it loads with no dataset registered.
"""


def load_model(path: str, overrides: Sequence[str] = ()) -> tuple[DetrPanoptic, CfgNode]:
    """A model ready to predict, from any weights that say what it is: ours, the published ones, Hugging Face's.

    Args:
        path: what ``MODEL.WEIGHTS`` takes.
        overrides: config keys and values in turn, such as ``["MODEL.DETR.SCORE_THRESHOLD", "0.7"]``; published weights
            don't show that res5 is dilated, so say ``MODEL.RESNETS.RES5_DILATION 2`` where the file's name doesn't.

    Returns:
        The model in evaluation mode, on a GPU if there is one (or on ``MODEL.DEVICE``), and the config that built it.
        ``cfg.DATASETS.TEST`` names the file's categories, as if they were a dataset's.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: it can't be read, has no detector, or its classes have no names.
        ConfigError: its config and the overrides describe no network.
    """
    file = read_weights(path)
    cfg = config_of(file, overrides)
    check_device(cfg)
    try:
        model = cast("DetrPanoptic", build_model(cfg))
    except ConfigError as error:
        raise ConfigError(f"{file.path}: the config in it, with what was changed, can't be used: {error}") from error
    DetrCheckpointer(model).load(file.path)
    return model.eval(), cfg


def config_of(file: WeightsFile, overrides: Sequence[str] = ()) -> CfgNode:
    """The config that builds the model of a file; its categories get registered under a name of their own.

    Raises:
        WeightsError: the file has no detector, or its classes have no names.
    """
    name = _register_categories([category for _, category in named_rows(file)])
    cfg = load_config(get_config_file("Base-DETR.yaml"), overrides)  # now, so that a misspelt key is named
    try:
        apply_recipe_(cfg, deduced_recipe(file))
        check_values(cfg)
        check_architecture(cfg)
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file.path}: the config in it is damaged: {error}. Use another copy.") from error
    cfg.merge_from_list(["DATASETS.TRAIN", (), "DATASETS.TEST", (name,)])
    cfg.MODEL.WEIGHTS = file.path
    cfg.MODEL.DETR.FREEZE_DETECTOR = False  # of training only
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    override_(cfg, overrides)
    return cfg


def named_rows(file: WeightsFile) -> list[tuple[int, Category]]:
    """The categories that a file's detector knows, in contiguous order, each with its row in the class head.

    Where only names are known, a name that COCO gives to stuff is stuff, and every other one is a thing.

    Raises:
        WeightsError: there is no detector, or nobody says what its outputs mean.
    """
    if WEIGHT not in file.weights:
        raise WeightsError(
            f"{file.path} ({file.origin}) has no class head: it is a backbone or a part of a model. Use it as "
            "MODEL.WEIGHTS of a training."
        )
    known = head_classes(file)
    if known is None:
        raise WeightsError(
            f"{file.path} ({file.origin}) has {len(file.weights[WEIGHT])} outputs, and nothing says which classes "
            "they are. Use it as MODEL.WEIGHTS with the dataset it was trained on in DATASETS.TEST."
        )
    stuff = {normalised(category.name): category for category in coco_categories() if not category.is_thing}
    named = [(row, _category(row, known_class, stuff)) for row, known_class in enumerate(known) if known_class]
    return sorted(named, key=lambda pair: not pair[1].is_thing)


def _category(row: int, head_class: HeadClass, stuff: dict[str, Category]) -> Category:
    if head_class.category is not None:
        return head_class.category
    is_thing = normalised(head_class.name) not in stuff
    red, green, blue = hashlib.sha256(head_class.name.encode()).digest()[:3]
    return Category(row, head_class.name, is_thing, (red, green, blue))


def _register_categories(categories: list[Category]) -> str:
    """A dataset without images, so that metadata (names, colours) are found as those of any dataset are."""
    content = json.dumps(to_record(categories), sort_keys=True)
    name = f"checkpoint_{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    register_entry(
        DatasetEntry(
            name=name,
            images="",
            panoptic_json="",
            panoptic_root="",
            instances_json="",
            categories=tuple(categories),
            advice="These are the categories of a checkpoint; they have no images.",
        )
    )
    return name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Write weights of another program as a checkpoint of this project."
    parser.epilog = _EPILOG
    parser.add_argument("input", metavar="IN", help="a file, a folder of Hugging Face, an address or a short name")
    parser.add_argument("output", metavar="OUT", help="the checkpoint to write, such as detr.pth")
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")
    add_opts(parser, "config keys that the file doesn't show")


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was written."""
    check_outputs({"OUT": args.output}, weight_files(args.input))
    if os.path.exists(args.output) and not args.force:
        raise WeightsError(f"{args.output} is there already. Name another file, or use --force to replace it.")
    folder = os.path.dirname(os.path.abspath(args.output))
    if not os.path.isdir(folder):
        raise MissingFileError(f"The folder {folder} isn't there. Make it, or name another OUT.")
    file = read_weights(args.input)
    checkpoint = convert(file, args.opts)
    write_checkpoint(checkpoint, args.output)
    classes = len(checkpoint[RECORD].get("categories", []))
    what = counted(classes, "class", "classes") if classes else "a backbone"
    print(f"{args.output}: {counted(len(checkpoint['model']), 'tensor')}, {what}, from {file.origin}")
    return 0


def convert(file: WeightsFile, overrides: list[str]) -> dict[str, Any]:
    """The content of a checkpoint of this project: "model", and a record of what the model is.

    Args:
        file: of any origin.
        overrides: config keys and values in turn that the file doesn't show.

    Raises:
        WeightsError: the file is of no known program, or nobody says what its classes are.
    """
    if file.origin == UNKNOWN:
        example = next(iter(file.weights))
        raise WeightsError(f"{file.path} is of no program that is known here; its names are such as {example}.")
    if WEIGHT not in file.weights:
        return {"model": dict(file.weights), RECORD: {"config": deduced_recipe(file)}}
    rows, categories = zip(*named_rows(file))
    record = {"categories": to_record(categories), "config": model_recipe(config_of(file, overrides))}
    weights = dict(file.weights)
    if file.origin != OURS:
        weights |= chosen_rows(weights, rows)
    return {"model": with_record(weights, record), RECORD: record}
