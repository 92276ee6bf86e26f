"""``detr-d2 yard``: write a dataset of made-up construction-yard scenes."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Any

from ..arguments import whole_number
from .dataset import write_yard, write_yard_exports
from .scene import STUFF, THINGS

_EPILOG = f"""\
examples:
  detr-d2 yard datasets/yard --train 600 --val 60 --size 160x128 --seed 0
  detr-d2 yard exports/yard --layout cvat              # as people export it, to be prepared

OUT gets images/, panoptic/, the JSONs panoptic_train, panoptic_val, instances_train and
instances_val, and register.yaml, which a config names as
  DATASETS.REGISTER "['OUT/register.yaml']" DATASETS.TRAIN "('yard_train',)" DATASETS.TEST "('yard_val',)"

With --layout cvat OUT gets what people would have exported from CVAT, their faults included: cvat/ (two
exports in "COCO 1.0", things only), stuff/ (masks of the rest), ground_truth/ (to compare with). Make a dataset of it:
  detr-d2 prepare --cvat OUT/cvat --stuff masks OUT/stuff --overlap last --out datasets/yard

things: {", ".join(THINGS)}
stuff:  {", ".join(STUFF)}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Write a dataset of made-up construction-yard scenes, as COCO panoptic data with images."
    parser.epilog = _EPILOG
    parser.add_argument("out", metavar="OUT", help="folder to write; a yard dataset that is there is replaced")
    for name, least, most, default, meaning in (
        ("--train", 1, 1_000_000, 600, "training scenes"),
        ("--val", 1, 1_000_000, 60, "validation scenes"),
        ("--seed", 0, 2**32 - 1, 0, "another seed, other scenes"),
    ):
        kind, text = whole_number(least, most), f"{meaning} (default: {default})"
        parser.add_argument(name, type=kind, default=default, metavar="N", help=text)
    size = "of each image, in pixels (default: 160x128)"
    parser.add_argument("--size", type=_size, default=(160, 128), metavar="WxH", help=size)
    layout = "ready to train, or exports (default: dataset)"
    parser.add_argument("--layout", choices=("dataset", "cvat"), default="dataset", help=layout)


def run(args: argparse.Namespace) -> int:
    """Write the dataset that ``args`` describe and say where it is."""
    width, height = args.size
    options: dict[str, Any] = {"width": width, "height": height, "seed": args.seed, "progress": True}
    if args.layout == "cvat":
        folder = write_yard_exports(args.out, images=args.train + args.val, **options)
        print(f"{args.train + args.val} labelled scenes of {width}x{height} pixels: {folder}")
        sources = f"--cvat {shlex.quote(str(folder / 'cvat'))} --stuff masks {shlex.quote(str(folder / 'stuff'))}"
        prepared = shlex.quote(f"{folder}_prepared")
        print(f"make a dataset of them:  detr-d2 prepare {sources} --overlap last --out {prepared}")
    else:
        folder = write_yard(args.out, train=args.train, val=args.val, **options)
        print(f"{args.train} training and {args.val} validation scenes of {width}x{height} pixels: {folder}")
        print(f"use them:  DATASETS.REGISTER \"['{folder / 'register.yaml'}']\"  (names: yard_train, yard_val)")
    return 0


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,5})[xX×]([0-9]{1,5})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a size; write WIDTHxHEIGHT, such as 160x128")
    return int(match[1]), int(match[2])
