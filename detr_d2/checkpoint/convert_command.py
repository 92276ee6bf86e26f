"""``detr-d2 convert-weights``: write any weights as a checkpoint of this project."""

from __future__ import annotations

import argparse
import os
from typing import Any

from detr_d2.arguments import add_opts
from detr_d2.errors import MissingFileError, WeightsError
from detr_d2.files import check_outputs
from detr_d2.wording import counted

from .categories import WEIGHT, chosen_rows, to_record
from .formats import write_checkpoint
from .model_file import config_of, named_rows
from .names import OURS, UNKNOWN
from .paths import weight_files
from .reading import RECORD, WeightsFile, read_weights
from .recipe import deduced_recipe, model_recipe
from .state_dict import with_record

_EPILOG = """\
examples:
  detr-d2 convert-weights detr-r50-panoptic-00ce5173.pth detr_panoptic.pth
  detr-d2 convert-weights folder-saved-by-huggingface detr.pth
  detr-d2 convert-weights dc5.pth detr_dc5.pth --opts MODEL.RESNETS.RES5_DILATION 2

OUT holds tensors and plain data under this project's names: classes with their names, no-object last, and the config
keys that build the model, so that it loads with no dataset registered.
"""


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
