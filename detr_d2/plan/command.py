"""``detr-d2 plan``: what a dataset holds, and a training for it: weights, keys, time, memory, commands."""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from typing import Any

from detr_d2.arguments import add_opts, number
from detr_d2.check.sources import registered_names
from detr_d2.config import check_architecture, load_config
from detr_d2.data import register_from_config
from detr_d2.data.registration import entry_of, register_file
from detr_d2.errors import ConfigError, DatasetError

from .measuring import Measured, measure
from .planning import make_plan
from .report import plan_record, plan_text
from .stages import Stage, draft, find_start
from .survey import survey

_EPILOG = """\
examples:
  detr-d2 plan datasets/mine                     # what it holds, and commands to copy
  detr-d2 plan datasets/mine --minutes 240       # what can be done in an evening
  detr-d2 plan mine_train --register datasets/mine/register.yaml --no-measure
  detr-d2 plan datasets/yard --config-file configs/quickstart/detr_yard.yaml
  detr-d2 plan datasets/mine --json --opts INPUT.MAX_SIZE_TRAIN 640

Nothing is trained or written: to know time and memory, a few steps of each stage are run with random weights.
The rules, and where each comes from: docs/recipes.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = (
        "Say what a dataset holds and plan a training for it: where to start, which keys, how long on this machine "
        "(measured), how much memory, and the commands to copy."
    )
    parser.epilog = _EPILOG
    parser.add_argument(
        "dataset", metavar="DATASET", help="a registered name, a register.yaml, a folder with one, or a COCO JSON"
    )
    parser.add_argument("--register", metavar="FILE", help="the register.yaml that knows a name")
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="of either stage (default: configs/detr_R50.yaml)"
    )
    minutes = number(0.1, 1e6, "a number of minutes, from 0.1 on")
    parser.add_argument("--minutes", type=minutes, metavar="M", help="plan what fits into so many minutes")
    parser.add_argument("--no-measure", action="store_true", help="run no steps; time and memory aren't known then")
    seconds = number(1, 3600, "a number of seconds, from 1 to 3600")
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=15.0,
        metavar="S",
        help="to measure a stage for, roughly; more time, larger batches (default: 15)",
    )
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    add_opts(parser, "keys of both stages")


def run(args: argparse.Namespace) -> int:
    """Plan, and print the plan."""
    if len(args.opts) % 2:
        raise ConfigError(f"--opts takes pairs of KEY VALUE; {args.opts[-1]!r} has no value.")
    start = find_start(args.config_file)
    check_architecture(load_config(start.boxes_file))
    register = _known_by(args)
    name, validation = _names(args.dataset)
    register += [_entry(one) for one in (name, validation) if os.path.isabs(one)]
    found, records = survey(name, validation)
    options = dict(zip(args.opts[::2], args.opts[1::2]))
    stages, recipe = draft(start, found, register, options)
    measurer = None if args.no_measure else partial(_measure, records=records, seconds=args.seconds)
    plan = make_plan(found, stages, recipe, register, measurer, args.minutes)
    print(json.dumps(plan_record(plan), indent=2) if args.json else plan_text(plan))
    return 0


def _measure(stage: Stage, most_batch: int, records: list[dict[str, Any]], seconds: float) -> Measured:
    print(f"measuring: {stage.title} ...", file=sys.stderr)
    return measure(stage.config(), records, most_batch, seconds, stage.title)


def _known_by(args: argparse.Namespace) -> list[Any]:
    """What ``DATASETS.REGISTER`` is to be so that a training knows the dataset, whose names are registered here."""
    path = os.path.expanduser(args.dataset)
    inner = os.path.join(path, "register.yaml") if os.path.isdir(path) else path
    if args.register:
        register_file(os.path.abspath(os.path.expanduser(args.register)), "--register")
        return [os.path.expanduser(args.register)]
    if inner.endswith((".yaml", ".yml")) and os.path.isfile(inner):
        return [inner]
    if os.path.exists(path):
        return []
    cfg = load_config(args.config_file)
    register_from_config(cfg)
    return list(cfg.DATASETS.REGISTER)


def _names(dataset: str) -> tuple[str, str]:
    """The dataset to train on, and the one to evaluate on, if there is one.

    Raises:
        DatasetError: it can't be known which of several is meant.
    """
    names = registered_names(dataset)
    stems = {name: os.path.basename(name).removesuffix(".json") for name in names}
    training = [name for name, stem in stems.items() if stem.endswith("train")]
    training = training or [name for name, stem in stems.items() if "train" in stem]
    others = [name for name in names if name not in training]
    if len(names) > 1 and len(training) != 1:
        raise DatasetError(
            f"{dataset} has {len(names)} datasets, {', '.join(names)}, of which {len(training)} have 'train' in their "
            "name. Name the one to train on, with --register for its register.yaml."
        )
    name = (training or names)[0]
    sibling = "val".join(name.rsplit("train", 1))
    is_known = sibling != name and entry_of(sibling) is not None
    validation = sibling if is_known else next((one for one in others if "val" in stems[one]), "")
    return name, validation if validation != name else ""


def _entry(name: str) -> dict[str, str]:
    """A JSON's entry: it is registered under its path."""
    entry = entry_of(name)
    assert entry is not None
    keys = ("name", "images", "panoptic_json", "panoptic_root", "instances_json")
    return {key: getattr(entry, key) for key in keys if getattr(entry, key)}
