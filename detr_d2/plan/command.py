"""``detr-d2 plan``: what a dataset holds, and a training for it, in words and tables, or as plain data."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any

from tabulate import tabulate

from detr_d2.arguments import add_opts, number
from detr_d2.check.sources import registered_names
from detr_d2.checkpoint import PUBLISHED_WEIGHTS
from detr_d2.config import check_architecture, load_config
from detr_d2.data import register_from_config
from detr_d2.data.registration import entry_of, register_file
from detr_d2.errors import ConfigError, DatasetError
from detr_d2.wording import counted

from .measuring import Measured, measure
from .planning import Plan, StagePlan, duration, make_plan
from .rules import SOURCES
from .stages import Stage, draft, find_start
from .survey import survey

#: The longest list of classes that is shown whole.
_MOST_CLASSES = 40
#: Between two lines of a command.
_CONTINUED = " \\\n    "

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


def plan_text(plan: Plan) -> str:
    """What the command prints."""
    parts = [_images(plan), _classes(plan), _training(plan)]
    if plan.warnings:
        parts.append("Look out:\n" + "\n".join(f"  * {warning}" for warning in plan.warnings))
    parts += [f"# {title}\n" + _CONTINUED.join(map(shlex.join, lines)) for title, lines in plan.commands.items()]
    return "\n\n".join(parts)


def plan_record(plan: Plan) -> dict[str, Any]:
    """The plan as data that JSON takes; times in seconds, memory in bytes, null where nothing was measured."""
    stages = [
        {
            "title": each.stage.title,
            "config_file": each.stage.config_file,
            "changes": dict(each.stage.changes),
            "batch": each.batch,
            "iterations": each.iterations,
            "passes": round(each.passes, 2),
            "step_seconds": each.step_seconds,
            "evaluation_seconds": each.evaluation_seconds,
            "seconds": each.seconds,
            "slowed": None if each.measured is None else each.measured.slowed,
            "memory": each.memory,
            "measured_batch": each.measured_batch,
        }
        for each in plan.stages
    ]
    dataset = {**asdict(plan.survey), "absent": plan.survey.absent, "unseen": plan.survey.unseen}
    recipe = {**asdict(plan.recipe), "sources": {key: SOURCES[key][0] for key in plan.recipe.sources if key in SOURCES}}
    return {
        "dataset": dataset,
        "recipe": recipe,
        "stages": stages,
        "seconds": plan.seconds,
        "warnings": list(plan.warnings),
        "commands": {title: shlex.join(chain.from_iterable(lines)) for title, lines in plan.commands.items()},
    }


def _images(plan: Plan) -> str:
    survey = plan.survey
    things = [each for each in survey.classes if each.is_thing]
    stuff = [each for each in survey.classes if not each.is_thing]
    evaluated = counted(survey.validation_images, "image")
    lines = [
        f"{survey.name}: {counted(survey.images, 'image')}, {_sides(survey.widths)} wide and "
        f"{_sides(survey.heights)} high",
        f"{survey.validation}: {evaluated} to evaluate on" if survey.validation else "",
        *(
            f"{kind}: {counted(len(classes), 'class', 'classes')}, "
            f"{counted(sum(each.segments for each in classes), 'segment')}"
            for kind, classes in (("things", things), ("stuff", stuff))
            if classes
        ),
        f"an image has {survey.mean_segments:.1f} segments on average and at most {survey.most_segments:,}, in "
        f"{survey.fullest}",
    ]
    return "\n".join(filter(None, lines))


def _sides(values: tuple[int, int, int]) -> str:
    least, median, most = values
    return f"{median} pixels" if least == most else f"{least} to {most} pixels (median {median})"


def _classes(plan: Plan) -> str:
    rows = sorted(plan.survey.classes, key=lambda each: each.images)
    shown = rows[:_MOST_CLASSES]
    table = []
    for each in shown:
        kind, note = "thing" if each.is_thing else "stuff", "few" if each.is_rare else "" if each.images else "none"
        table.append((each.name, kind, each.segments, each.images, each.validation_images, note))
    text = tabulate(table, ["class", "", "segments", "images", "in validation", ""])
    return text + (f"\n... and {len(rows) - len(shown)} classes with more images" if len(rows) > len(shown) else "")


def _training(plan: Plan) -> str:
    rows = [
        (
            number,
            each.stage.title,
            each.batch,
            f"{each.iterations:,}",
            f"{each.passes:.0f}" if each.passes >= 10 else f"{each.passes:.1f}",
            "not measured" if each.memory is None else f"{each.memory / 2**30:.1f} GiB",
            duration(each.step_seconds),
            duration(each.seconds),
        )
        for number, each in enumerate(plan.stages, 1)
    ]
    head = ("stage", "trains", "batch", "iterations", "passes", "memory", "an iteration", "in all")
    lines = [_start(plan), tabulate(rows, head, disable_numparse=True)]
    if plan.seconds is not None:
        lines.append(f"together {duration(plan.seconds)} on this machine, evaluations included{_how(plan.stages)}")
    if plan.stages[0].stage.passes:
        lines.append(f"what to expect with so many photos: {plan.recipe.expect} (docs/recipes.md)")
    return "\n".join(lines)


def _start(plan: Plan) -> str:
    cfg = plan.stages[0].stage.config()
    weights = cfg.MODEL.WEIGHTS
    address = f" ({PUBLISHED_WEIGHTS[weights]})" if weights in PUBLISHED_WEIGHTS else ""
    queries = f"{cfg.MODEL.DETR.NUM_QUERIES} queries for up to {counted(plan.survey.most_segments, 'segment')}"
    return f"start: {weights or 'from scratch'}{address}, {queries}"


def _how(stages: tuple[StagePlan, ...]) -> str:
    largest = min(each.measured_batch for each in stages)
    if all(each.batch <= each.measured_batch for each in stages):
        return "; measured with steps of these batches"
    return f"; from steps of up to {largest} image{'s'[: largest != 1]}, in a straight line"
