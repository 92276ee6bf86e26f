"""``detr-d2 prepare``: from CVAT's exports, and COCO, to a panoptic dataset that can be trained on."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detr_d2.arguments import number, whole_number
from detr_d2.errors import ConfigError, printable
from detr_d2.labels.readers import refuse_unreadable, try_exports
from detr_d2.parallel import default_workers

from .coco_mix import COCO_THINGS, mix_in
from .options import CROWDS, HOLES, OVERLAPS, PrepareOptions
from .pipeline import Prepared, find_target, prepare
from .stuff import StuffSettings, build_policy
from .stuff.settings import FOREIGN_THINGS, STUFF_CLASSES
from .tasks import Input

_EPILOG = """\
examples:
  detr-d2 prepare --cvat exports/ --out datasets/site                    # the rest of each picture is void
  detr-d2 prepare --cvat job_1.zip job_2.zip --stuff misc --out datasets/site
  detr-d2 prepare --cvat exports/ --stuff model detr-r50-panoptic --out datasets/site
  detr-d2 prepare --cvat exports/ --coco coco/ --coco-images 1000 --categories construction --out datasets/site

OUT gets images/, panoptic/, panoptic_train.json, panoptic_val.json, instances_train.json, instances_val.json,
categories.yaml, register.yaml, report.html and report.json. Look at report.html, then train with
  DATASETS.REGISTER "['OUT/register.yaml']" DATASETS.TRAIN "('OUT_train',)" DATASETS.TEST "('OUT_val',)"

A run that was interrupted goes on when the same command is given again.

who gets a pixel that several labels claim (--overlap):
  small-on-top  the label with fewer pixels             z-order     CVAT's layers; in a layer the later label
  file-order    the earlier label of the file           last        the later label of the file
  error         nobody: all overlaps are listed, and nothing is written
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Make one COCO panoptic dataset, split and ready to train on, of exported labels."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_sources(parser)
    _add_labels(parser)
    _add_stuff(parser)
    output = parser.add_argument_group("the dataset")
    output.add_argument("--out", required=True, type=Path, metavar="DIR", help="its folder; what was there is replaced")
    output.add_argument("--name", default="", help="NAME_train and NAME_val are registered (default: as the folder)")
    output.add_argument(
        "--val",
        type=number(0, 0.999999, "a share from 0 to below 1, such as 0.2"),
        default=0.2,
        metavar="P",
        help="share of validation (default: 0.2)",
    )
    output.add_argument(
        "--seed",
        type=whole_number(0, 999_999_999),
        default=0,
        metavar="N",
        help="another seed, another split (default: 0)",
    )
    pictures = output.add_mutually_exclusive_group()
    pictures.add_argument("--link", action="store_true", help="link to the pictures instead of copying them")
    pictures.add_argument(
        "--jpeg",
        type=whole_number(1, 100),
        nargs="?",
        const=92,
        metavar="Q",
        help="write all as JPEG of quality Q (default: 92)",
    )
    output.add_argument(
        "--workers",
        type=whole_number(1, 999_999_999),
        default=default_workers(),
        metavar="N",
        help="processes (default: %(default)s)",
    )


def _add_sources(parser: argparse.ArgumentParser) -> None:
    sources = parser.add_argument_group("what is read (each may be a folder, a zip, or a folder of such)")
    sources.add_argument(
        "--cvat", type=Path, nargs="+", action="extend", default=[], metavar="PATH",
        help="exports of CVAT: COCO 1.0, CVAT for images 1.1, Segmentation mask 1.1",
    )  # fmt: skip
    sources.add_argument(
        "--coco", type=Path, nargs="+", action="extend", default=[], metavar="PATH",
        help="COCO instances or COCO panoptic from elsewhere, with its own classes",
    )  # fmt: skip
    sources.add_argument(
        "--coco-images", type=whole_number(1, 999_999_999), metavar="N",
        help="mix in N pictures of --coco, which is COCO panoptic: stuff as --stuff-classes says, void stays void",
    )  # fmt: skip
    sources.add_argument(
        "--coco-things", choices=COCO_THINGS, default="misc",
        help="what their things become: misc, or keep their names (default: misc)",
    )  # fmt: skip


def _add_labels(parser: argparse.ArgumentParser) -> None:
    labels = parser.add_argument_group("labels")
    labels.add_argument(
        "--categories", default="auto", metavar="LIST",
        help="auto (what the exports have), construction, coco, or a yaml or JSON that lists them (default: auto)",
    )  # fmt: skip
    labels.add_argument("--classes", type=Path, metavar="YAML", help="lines 'name in the export: class', null or void")
    labels.add_argument(
        "--crowd", choices=CROWDS, default="auto",
        help="crowds, as CVAT's brush writes: keep, clear, or clear where a class has nothing else (default: auto)",
    )  # fmt: skip
    labels.add_argument("--overlap", choices=OVERLAPS, default="small-on-top", help="see below (default: small-on-top)")
    labels.add_argument(
        "--holes", choices=HOLES, default="cut",
        help="a polygon inside a polygon of the same object is a hole: cut it, or fill it (default: cut)",
    )  # fmt: skip
    labels.add_argument(
        "--min-area",
        type=whole_number(0, 999_999_999),
        default=16,
        metavar="N",
        help="segments of fewer pixels become void (default: 16)",
    )


def _add_stuff(parser: argparse.ArgumentParser) -> None:
    stuff = parser.add_argument_group("stuff: the rest of each picture")
    stuff.add_argument(
        "--stuff", nargs="+", default=["none"], metavar="WAY",
        help="none: void; misc: one class; masks DIR; model WEIGHTS, or model module:function (default: none)",
    )  # fmt: skip
    stuff.add_argument(
        "--stuff-classes", choices=STUFF_CLASSES, default="super",
        help="COCO's stuff as 16 super-categories, or as it is (default: super)",
    )  # fmt: skip
    stuff.add_argument(
        "--stuff-things", choices=FOREIGN_THINGS, default="misc", help="what a model's things become (default: misc)"
    )
    stuff.add_argument(
        "--stuff-score",
        type=number(0, 1, "a probability from 0 to 1"),
        default=0.85,
        metavar="P",
        help="what a model is less sure of is void (0.85)",
    )
    stuff.add_argument(
        "--margin",
        type=whole_number(0, 999_999_999),
        metavar="N",
        help="what is at most so many pixels away from people's labels is void (model: 5, else 0)",
    )
    stuff.add_argument("--cache", type=Path, metavar="DIR", help="keep a model's answers here for later runs")
    stuff.add_argument(
        "--stuff-opts", nargs="+", default=[], metavar="KEY VALUE", help="config of the model: MODEL.DEVICE cpu"
    )


class _Printable(logging.Formatter):
    """Escapes what could steer a terminal, as names in exports are anybody's."""

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        return printable(super().format(record))


def run(args: argparse.Namespace) -> int:
    """Make the dataset that ``args`` describe and say what is in it."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    options = _options(args)
    settings = StuffSettings(
        args.stuff_classes, args.stuff_things, args.stuff_score, args.margin, args.cache, tuple(args.stuff_opts)
    )
    find_target(options.out)  # before hours of reading
    policy = build_policy(args.stuff, settings)
    inputs = _inputs(args)
    prepared = prepare(inputs, policy, options, _bar)
    _print(prepared, options)
    return 0


def _options(args: argparse.Namespace) -> PrepareOptions:
    pictures: Any = "link" if args.link else "jpeg" if args.jpeg else "copy"
    return PrepareOptions(
        out=args.out,
        name=args.name,
        val=args.val,
        seed=args.seed,
        categories=args.categories,
        classes=args.classes,
        crowds=args.crowd,
        overlap=args.overlap,
        holes=args.holes,
        min_area=args.min_area,
        pictures=pictures,
        quality=args.jpeg or 95,
        workers=args.workers,
    )


def _inputs(args: argparse.Namespace) -> list[Input]:
    if not args.cvat and not args.coco:
        raise ConfigError("nothing to read; name exports by --cvat, --coco, or both.")
    if args.coco_images and not args.coco:
        raise ConfigError("--coco-images wants pictures of COCO; name their folder by --coco.")
    _refuse_out_among(args.cvat + args.coco, args.out)
    (exports, wrong), (others, also_wrong) = try_exports(args.cvat, "cvat"), try_exports(args.coco, "coco")
    refuse_unreadable([*wrong, *also_wrong])
    inputs = [Input(export) for export in exports]
    if args.coco_images:
        mixed = mix_in(others, args.coco_images, args.seed, args.coco_things, args.stuff_classes)
        return inputs + [Input(export, "coco", fills_rest=False) for export in mixed]
    return inputs + [Input(export) for export in others]


def _refuse_out_among(paths: Sequence[Path], out: Path) -> None:
    """The dataset must not be among what is read, or the next run would read it."""
    target = Path(os.path.realpath(out))
    for path in paths:
        if Path(os.path.realpath(path)) in (target, *target.parents):
            raise ConfigError(f"--out {out} lies in {path}, which is read; name a folder outside of it.")


def _print(prepared: Prepared, options: PrepareOptions) -> None:
    report = prepared.report
    pictures, warnings = report["pictures"], report["warnings"]
    kept = [entry for entry in report["classes"] if entry["kept"]]
    things = sum(entry["is_thing"] for entry in kept)
    segments = sum(entry["kept"] for entry in kept)
    reused = f", {prepared.reused} of them from an interrupted run" if prepared.reused else ""
    for warning in warnings:
        print(printable(f"warning: {warning}"), file=sys.stderr)
    folder = printable(str(prepared.folder))
    print(
        f"{pictures['train']} pictures for training and {pictures['val']} for validation{reused}; {segments} segments "
        f"of {things} classes of things and {len(kept) - things} of stuff: {folder}"
    )
    register = shlex.quote(str(prepared.folder / "register.yaml"))
    names = f"{options.dataset_name}_train" + (f", {options.dataset_name}_val" if pictures["val"] else "")
    print(f"what went in, what was dropped and why:  {os.path.join(folder, 'report.html')}")
    print(f"look once more:  detr-d2 check {printable(register)}")
    print(f"use it:  DATASETS.REGISTER \"['{os.path.join(folder, 'register.yaml')}']\"  (names: {names})")


def _bar(things: Iterable[Any], count: int, title: str) -> Iterable[Any]:
    bar: Any = tqdm(things, total=count, desc=title, unit="picture", file=sys.stderr, disable=None)
    return bar  # type: ignore[no-any-return]
