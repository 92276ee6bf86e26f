"""``detr-d2 browse``: a dataset's images with their ground truth, as a page for the browser."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detr_d2.arguments import add_opts, whole_number
from detr_d2.browse.gallery import Gallery, choose_records, class_rows
from detr_d2.check.sources import registered_names
from detr_d2.config import load_config
from detr_d2.data import categories_of, register_from_config
from detr_d2.data.registration import dataset_files, image_files
from detr_d2.errors import DatasetError, UserError
from detr_d2.files import check_outputs, numbered_names
from detr_d2.pages import write_page

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

TEMPLATE = Path(__file__).parent / "templates" / "browse.html"

_EPILOG = """\
examples:
  detr-d2 browse datasets/yard
  detr-d2 browse datasets/construction/register.yaml --class brick --limit 100
  detr-d2 browse yard_train --augmented --config-file configs/quickstart/detr_yard.yaml
  detr-d2 browse datasets/yard --augmented --opts INPUT.RICAP.ENABLED True INPUT.LSJ.ENABLED True

One page for each dataset that DATASET names: OUT/NAME.html, a file that needs no other. In an image, the space bar
switches between ground truth, image and what the model is given; the arrow keys go on.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = (
        "Write a page with a dataset's images, their ground truth drawn, and what training makes of them."
    )
    parser.epilog = _EPILOG
    add: Callable[..., Any] = parser.add_argument
    add("dataset", metavar="DATASET", help="a registered name, a register.yaml, a folder with one, or a COCO JSON")
    add("--augmented", action="store_true", help="show, too, what the model is given in training")
    limit = {"type": whole_number(1, 999_999), "default": 40, "metavar": "N"}
    add("--limit", **limit, help="so many images, spread evenly (default: 40)")
    add("--class", dest="class_name", metavar="NAME", help="only images that show this class")
    add("--out", default="browse", metavar="DIR", help="folder of the page (default: browse)")
    add("--seed", type=int, default=0, metavar="N", help="of the augmentation (default: 0)")
    add("--config-file", default="", metavar="FILE", help="a config, for its INPUT and its datasets")
    add_opts(parser, "changes to the config")


def run(args: argparse.Namespace) -> int:
    """Write the pages and say where they are."""
    cfg = load_config(args.config_file, args.opts)
    cfg.INPUT.FORMAT, cfg.MODEL.DETR.MASK_ON = "RGB", True
    register_from_config(cfg)
    names = registered_names(args.dataset)
    shown = [re.sub(r"[^0-9A-Za-z_.-]+", "_", _short(name, args.dataset)) for name in names]
    pages = [Path(args.out) / page for page in numbered_names([f"{one}.html" for one in shown])]
    for name, page in zip(names, pages, strict=True):
        check_outputs({"--out": page}, _files_of(name, args))
    for name, page in zip(names, pages, strict=True):
        np.random.seed(args.seed % 2**32)
        print(f"{name}: {_write(name, page, cfg, args)}")
    return 0


def _files_of(name: str, args: argparse.Namespace) -> Iterator[str]:
    """What is read of a dataset: what the command line names, labels, images."""
    yield from (args.dataset, os.path.join(args.dataset, "register.yaml"), args.config_file)
    yield from dataset_files(name)
    yield from image_files(DatasetCatalog.get(name))


def _write(name: str, page: Path, cfg: CfgNode, args: argparse.Namespace) -> Path:
    """One dataset's page."""
    records = DatasetCatalog.get(name)
    categories = categories_of(name)
    wanted = None
    if args.class_name is not None:
        wanted = next((i for i, category in enumerate(categories) if category.name == args.class_name), None)
        if wanted is None:
            raise DatasetError(
                f"{name} has no class {args.class_name!r}; it has {', '.join(c.name for c in categories)}."
            )
    gallery = Gallery(name, records, cfg if args.augmented else None)
    chosen = choose_records(records, args.limit, wanted)
    scenes: list[dict[str, Any]] = []
    failures: list[str] = []
    for number in tqdm(chosen, desc=name, unit="image", file=sys.stderr, disable=None, leave=False):
        try:
            scenes.append(gallery.scene(number))
        except UserError as error:
            failures.append(str(error))
    return write_page(
        page,
        TEMPLATE,
        title=f"Dataset {_short(name, args.dataset)}",
        scenes=scenes,
        failures=failures,
        classes=class_rows(records, categories),
        images=len(records),
        augmented=args.augmented,
        class_name=args.class_name,
    )


def _short(name: str, dataset: str) -> str:
    """A dataset's name; that of a JSON starts in the folder it was found in."""
    if not os.path.isabs(name):
        return name
    folder = dataset if os.path.isdir(dataset) else os.path.dirname(name)
    return os.path.relpath(name, folder).removesuffix(".json")
