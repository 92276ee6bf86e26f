"""``detr-d2 browse``: a dataset's images with their ground truth, as a page for the browser."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detr_d2.arguments import add_opts, whole_number
from detr_d2.check.sources import registered_names
from detr_d2.config import load_config
from detr_d2.data import Category, categories_of, dataset_metadata, register_from_config
from detr_d2.data.registration import dataset_files, image_files, segments_of
from detr_d2.data.train_loader import build_train_mapper
from detr_d2.errors import DatasetError, UserError
from detr_d2.files import check_outputs, numbered_names
from detr_d2.labels.image_reading import read_dataset_image
from detr_d2.pages import thumbnail, write_page
from detr_d2.visualization.ground_truth import draw_ground_truth, draw_training_instances

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

TEMPLATE = Path(__file__).parent / "templates" / "browse.html"
#: Long side of what a page holds, in pixels: large enough to judge a mask, small enough for hundreds.
LONG_SIDE = 640
#: How often an image is augmented.
DRAWS = 3

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


def class_rows(records: Iterable[dict[str, Any]], categories: Sequence[Category]) -> list[dict[str, Any]]:
    """For each class its name, colour and kind, the images and segments that have it, its crowds and its pixels.

    Args:
        records: dataset dicts.
        categories: by contiguous id.

    Returns:
        One dict a class; ``pixels`` is None where the JSON has no areas.
    """
    counts, has_areas = np.zeros((len(categories), 4), np.int64), True
    for record in records:
        segments = segments_of(record)
        counts[list({segment["category_id"] for segment in segments}), 0] += 1
        for segment in segments:
            is_crowd, area = bool(segment.get("iscrowd", 0)), segment.get("area")
            has_areas = has_areas and area is not None
            counts[segment["category_id"], 1:] += (not is_crowd, is_crowd, int(area or 0))
    rows = zip(categories, counts.tolist())
    return [
        {"name": c.name, "color": c.color, "is_thing": c.is_thing, "images": images}
        | {"segments": segments, "crowds": crowds, "pixels": pixels if has_areas else None}
        for c, (images, segments, crowds, pixels) in rows
    ]


def choose_records(records: Sequence[dict[str, Any]], limit: int, wanted: int | None = None) -> list[int]:
    """The numbers of at most ``limit`` records, spread evenly; of those with a class, if one is wanted."""
    numbers = [
        number
        for number, record in enumerate(records)
        if wanted is None or any(segment["category_id"] == wanted for segment in segments_of(record))
    ]
    places = np.linspace(0, len(numbers) - 1, min(limit, len(numbers))).round().astype(int)
    return [numbers[place] for place in places]


class Gallery:
    """Draws the images of a dataset.

    Args:
        name: of the dataset, which is registered.
        records: its dataset dicts.
        cfg: how images are augmented; None: they aren't.
    """

    def __init__(self, name: str, records: Sequence[dict[str, Any]], cfg: CfgNode | None) -> None:
        self._records, self._metadata = records, dataset_metadata(name)
        self._categories = categories_of(name)
        self._augment: Callable[[Any], dict[str, Any]] | None = None
        if cfg is not None:
            self._augment, self._entries = build_train_mapper(cfg, list(records))

    def scene(self, number: int) -> dict[str, Any]:
        """An image as the page's template takes it: caption, class names and views.

        Raises:
            MissingFileError, DatasetError: image or ground truth can't be read.
        """
        record = self._records[number]
        image = read_dataset_image(record["file_name"], "RGB", record.get("image_id"))
        names = [self._categories[segment["category_id"]].name for segment in segments_of(record)]
        height, width = image.shape[:2]
        drawn = draw_ground_truth(image, record, self._metadata, _scale(image))
        views = [("ground truth", thumbnail(drawn, LONG_SIDE)), ("image", thumbnail(image, LONG_SIDE))]
        if self._augment is not None:
            given = [self._augment(self._entries[number]) for _ in range(DRAWS)]
            shown = [thumbnail(draw_given(each, self._metadata, self._categories), LONG_SIDE) for each in given]
            views = [(f"as the model is given it, {i + 1}", view) for i, view in enumerate(shown)] + views
        caption = f"{Path(record['file_name']).name} · image id {record['image_id']} · {width}×{height}"
        return {"caption": caption, "classes": sorted(set(names)), "segments": len(names), "views": views}


def draw_given(given: dict[str, Any], metadata: Any, categories: Sequence[Category]) -> np.ndarray:
    """What the model is given in training, drawn: its image with its masks as they are, or with its boxes.

    Args:
        given: what a mapper returned, in RGB.
        metadata: Detectron2's ``Metadata`` of the dataset.
        categories: of the dataset.

    Returns:
        (H, W, 3) uint8, of about ``LONG_SIDE`` pixels.
    """
    image = np.ascontiguousarray(given["image"].numpy().transpose(1, 2, 0))
    return draw_training_instances(image, given["instances"], categories, metadata, _scale(image))


def _scale(image: np.ndarray) -> float:
    """Drawings are made at the page's size, so that names can be read; small images by a whole factor."""
    long_side = max(image.shape[:2])
    return LONG_SIDE / long_side if long_side > LONG_SIDE else float(LONG_SIDE // long_side)
