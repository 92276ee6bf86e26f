"""``detr-d2 yard``: write a dataset of made-up construction-yard scenes."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from ..arguments import whole_number
from ..errors import DatasetError
from .yard import MAX_SIDE, MIN_HEIGHT, MIN_WIDTH, STUFF, THINGS
from .yard_dataset import write_yard
from .yard_exports import write_yard_exports

_EPILOG = f"""\
examples:
  detr-d2 yard datasets/yard --train 600 --val 60 --size 160x128 --seed 0
  detr-d2 yard exports/yard --layout cvat              # as people export it, to be prepared

OUT gets images/, panoptic/, panoptic_train.json, panoptic_val.json, instances_train.json,
instances_val.json and register.yaml. Use it in a config with
  DATASETS:
    REGISTER: ["OUT/register.yaml"]
    TRAIN: ["yard_train"]
    TEST: ["yard_val"]

With --layout cvat OUT gets what people would have exported from CVAT, their faults included: cvat/ (two
exports in "COCO 1.0", things only), stuff/ (masks of the rest), truth/ (to compare with). Make a dataset of it with
  detr-d2 prepare --cvat OUT/cvat --stuff masks OUT/stuff --overlap last --out datasets/yard

things: {", ".join(THINGS)}
stuff:  {", ".join(STUFF)}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Write a dataset of made-up construction-yard scenes, as COCO panoptic data with pictures."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", metavar="OUT", help="folder to write; a yard dataset that is there is replaced")
    parser.add_argument(
        "--train", type=whole_number(1, 1_000_000), default=600, metavar="N", help="training scenes (default: 600)"
    )
    parser.add_argument(
        "--val", type=whole_number(1, 1_000_000), default=60, metavar="N", help="validation scenes (default: 60)"
    )
    parser.add_argument(
        "--size", type=_size, default=(160, 128), metavar="WxH", help="of each picture, in pixels (default: 160x128)"
    )
    parser.add_argument(
        "--layout", choices=("dataset", "cvat"), default="dataset", help="ready to train, or exports (default: dataset)"
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=0,
        metavar="N",
        help="another seed, other scenes (default: 0)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the dataset that ``args`` describe and say where it is."""
    width, height = args.size
    size: dict[str, Any] = {"width": width, "height": height, "seed": args.seed, "progress": _bar}
    try:
        if args.layout == "cvat":
            folder = write_yard_exports(args.out, pictures=args.train + args.val, **size)
        else:
            folder = write_yard(args.out, train=args.train, val=args.val, **size)
    except OSError as error:
        raise DatasetError(
            f"{args.out} can't be written: {error}. Nothing was left there; name another folder."
        ) from error
    if args.layout == "cvat":
        print(f"{args.train + args.val} labelled scenes of {width}x{height} pixels: {folder}")
        prepared = shlex.quote(f"{folder}_prepared")
        sources = f"--cvat {shlex.quote(str(folder / 'cvat'))} --stuff masks {shlex.quote(str(folder / 'stuff'))}"
        print(f"make a dataset of them:  detr-d2 prepare {sources} --overlap last --out {prepared}")
        return 0
    print(f"{args.train} training and {args.val} validation scenes of {width}x{height} pixels: {folder}")
    print(f"use them:  DATASETS.REGISTER \"['{folder / 'register.yaml'}']\"  (names: yard_train, yard_val)")
    return 0


def _bar(numbers: Iterable[int], title: str) -> Iterable[int]:
    return tqdm(numbers, desc=f"{title:6}", unit="scene")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,5})[xX×]([0-9]{1,5})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a size; write WIDTHxHEIGHT, such as 160x128")
    width, height = int(match[1]), int(match[2])
    if width < MIN_WIDTH or height < MIN_HEIGHT or max(width, height) > MAX_SIDE:
        raise argparse.ArgumentTypeError(
            f"{text} is outside of what is allowed: {MIN_WIDTH}x{MIN_HEIGHT} to {MAX_SIDE}x{MAX_SIDE}"
        )
    return width, height
