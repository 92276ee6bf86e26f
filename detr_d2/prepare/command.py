"""``detr-d2 prepare``: from CVAT's exports, and COCO, to a panoptic dataset that can be trained on."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

from detr_d2.arguments import add_engine, number, whole_number
from detr_d2.data.categories import known_things
from detr_d2.errors import ConfigError, printable
from detr_d2.labels.readers import refuse_unreadable, try_exports
from detr_d2.labels.records import Export
from detr_d2.parallel import default_workers, import_ray

from .options import (
    CocoThings,
    Crowds,
    ForeignThings,
    Holes,
    Overlap,
    PrepareOptions,
    StuffClasses,
    StuffSettings,
)
from .pipeline import Prepared, find_target, prepare
from .selecting import mix_in, only_changed
from .stuff import build_policy

_EPILOG = """\
examples:
  detr-d2 prepare --cvat exports/ --out datasets/site                    # the rest of each image is void
  detr-d2 prepare --cvat job_1.zip job_2.zip --stuff misc --out datasets/site
  detr-d2 prepare --cvat exports/ --stuff model detr-r50-panoptic --out datasets/site
  detr-d2 prepare --cvat exports/ --engine ray --out datasets/site       # on a cluster, see docs/scale.md
  detr-d2 prepare --cvat corrected.zip --only-changed predicted/ --out datasets/corrected
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


_MOST = 999_999_999
_COUNT, _FROM_ONE, _QUALITY = whole_number(0, _MOST), whole_number(1, _MOST), whole_number(1, 100)
_SHARE = number(0, 0.999999, "a share from 0 to below 1, such as 0.2")
_PROBABILITY = number(0, 1, "a probability from 0 to 1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Make one COCO panoptic dataset, split and ready to train on, of exported labels."
    parser.epilog = _EPILOG
    _add_sources(
        parser.add_argument_group("what is read (each may be a folder, a zip, or a folder of such)").add_argument
    )
    _add_labels(parser.add_argument_group("labels").add_argument)
    _add_stuff(parser.add_argument_group("stuff: the rest of each image").add_argument)
    output = parser.add_argument_group("the dataset")
    add = output.add_argument
    add("--out", required=True, type=Path, metavar="DIR", help="its folder; what was there is replaced")
    add("--name", default="", help="NAME_train and NAME_val are registered (default: as the folder)")
    add("--val", type=_SHARE, default=0.2, metavar="P", help="share of validation (default: 0.2)")
    add("--seed", type=_COUNT, default=0, metavar="N", help="another seed, another split (default: 0)")
    add_image: Callable[..., Any] = output.add_mutually_exclusive_group().add_argument
    way = {"dest": "images", "action": "store_const", "const": "link", "default": "copy"}
    add_image("--link", **way, help="link to the images instead of copying them")
    jpeg = {"nargs": "?", "const": 92, "metavar": "Q"}
    add_image("--jpeg", type=_QUALITY, **jpeg, help="write all as JPEG of quality Q (default: 92)")
    add_engine(parser.add_argument_group("where it runs"), default_workers())


def _add_sources(add: Callable[..., Any]) -> None:
    paths = {"type": Path, "nargs": "+", "action": "extend", "default": [], "metavar": "PATH"}
    add("--cvat", **paths, help="exports of CVAT: COCO 1.0, CVAT for images 1.1, Segmentation mask 1.1")
    add("--coco", **paths, help="COCO instances or COCO panoptic from elsewhere, with its own classes")
    base = "only images whose labels aren't those of BASE: what 'detr-d2 predict' wrote and people corrected in CVAT"
    add("--only-changed", type=Path, metavar="BASE", help=base)
    mix = "mix in N images of --coco, which is COCO panoptic: stuff as --stuff-classes says, void stays void"
    add("--coco-images", type=_FROM_ONE, metavar="N", help=mix)
    things = "what their things become: misc, or keep their names (default: misc)"
    add("--coco-things", choices=get_args(CocoThings), default="misc", help=things)


def _add_labels(add: Callable[..., Any]) -> None:
    listed = "auto (what the exports have), construction, coco, or a yaml or JSON that lists them (default: auto)"
    add("--categories", default="auto", metavar="LIST", help=listed)
    add("--classes", type=Path, metavar="YAML", help="lines 'name in the export: class', null or void")
    crowds = "crowds, as CVAT's brush writes: keep, clear, or clear where a class has nothing else (default: auto)"
    add("--crowd", dest="crowds", choices=get_args(Crowds), default="auto", help=crowds)
    add("--overlap", choices=get_args(Overlap), default="small-on-top", help="see below (default: small-on-top)")
    holes = "a polygon inside a polygon of the same object is a hole: cut it, or fill it (default: cut)"
    add("--holes", choices=get_args(Holes), default="cut", help=holes)
    small = "segments of fewer pixels become void (default: 16)"
    add("--min-area", type=_COUNT, default=16, metavar="N", help=small)


def _add_stuff(add: Callable[..., Any]) -> None:
    ways = "none: void; misc: one class; masks DIR; model WEIGHTS, or model module:function (default: none)"
    add("--stuff", nargs="+", default=["none"], metavar="WAY", help=ways)
    classes = "COCO's stuff as 16 super-categories, or as it is (default: super)"
    add("--stuff-classes", choices=get_args(StuffClasses), default="super", help=classes)
    things = "what a model's things become (default: misc)"
    add("--stuff-things", choices=get_args(ForeignThings), default="misc", help=things)
    score = "what a model scores lower is void (0.85)"
    add("--stuff-score", type=_PROBABILITY, default=0.85, metavar="P", help=score)
    margin = "what is at most so many pixels away from people's labels is void (model: 5, else 0)"
    add("--margin", type=_COUNT, metavar="N", help=margin)
    add("--cache", type=Path, metavar="DIR", help="keep a model's answers here for later runs")
    add("--stuff-opts", nargs="+", default=[], metavar="KEY VALUE", help="config of the model: MODEL.DEVICE cpu")


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
    if args.engine == "ray":
        import_ray()  # before hours of reading
    options = _options(args)
    settings = StuffSettings(
        args.stuff_classes, args.stuff_things, args.stuff_score, args.margin, args.cache, tuple(args.stuff_opts)
    )
    find_target(options.out)  # before hours of reading
    policy = build_policy(args.stuff, settings)
    prepared = prepare(_exports(args), policy, options)
    _print(prepared, options)
    return 0


def _options(args: argparse.Namespace) -> PrepareOptions:
    """The arguments that are called as the options are; and the quality of JPEGs."""
    names = [field.name for field in fields(PrepareOptions) if hasattr(args, field.name)]
    options = PrepareOptions(**{name: getattr(args, name) for name in names})
    return replace(options, images="jpeg", quality=args.jpeg) if args.jpeg else options


def _exports(args: argparse.Namespace) -> list[Export]:
    if not args.cvat and not args.coco:
        raise ConfigError("nothing to read; name exports by --cvat, --coco, or both.")
    if args.coco_images and not args.coco:
        raise ConfigError("--coco-images wants images of COCO; name their folder by --coco.")
    target = Path(os.path.realpath(args.out))
    for path in filter(None, [*args.cvat, *args.coco, args.only_changed]):
        if Path(os.path.realpath(path)) in (target, *target.parents):  # the next run would read it
            raise ConfigError(f"--out {args.out} lies in {path}, which is read; name a folder outside of it.")
    exports, wrong = try_exports(args.cvat, "cvat", known_things=known_things)
    others, also_wrong = try_exports(args.coco, "coco", known_things=known_things)
    refuse_unreadable([*wrong, *also_wrong])
    mixed: list[Export] = []
    if args.coco_images:
        mixed, others = mix_in(others, args.coco_images, args.seed, args.coco_things, args.stuff_classes), []
    if args.only_changed:
        found = only_changed(exports + others, args.only_changed)
        print(f"--only-changed: {found}")
        return found.exports + mixed
    return exports + others + mixed


def _print(prepared: Prepared, options: PrepareOptions) -> None:
    report = prepared.report
    images, warnings = report["images"], report["warnings"]
    kept = [entry for entry in report["classes"] if entry["kept"]]
    things = sum(entry["is_thing"] for entry in kept)
    segments = sum(entry["kept"] for entry in kept)
    reused = f", {prepared.reused} of them from an interrupted run" if prepared.reused else ""
    for warning in warnings:
        print(printable(f"warning: {warning}"), file=sys.stderr)
    folder = printable(str(prepared.folder))
    print(
        f"{images['train']} images for training and {images['val']} for validation{reused}; {segments} segments "
        f"of {things} classes of things and {len(kept) - things} of stuff: {folder}"
    )
    register = shlex.quote(str(prepared.folder / "register.yaml"))
    names = f"{options.dataset_name}_train" + (f", {options.dataset_name}_val" if images["val"] else "")
    print(f"what went in, what was dropped and why:  {os.path.join(folder, 'report.html')}")
    print(f"look once more:  detr-d2 check {printable(register)}")
    print(f"use it:  DATASETS.REGISTER \"['{os.path.join(folder, 'register.yaml')}']\"  (names: {names})")
