"""A plan in words and tables for the terminal, and as plain data."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from itertools import chain
from typing import Any

from tabulate import tabulate

from detr_d2.checkpoint import PUBLISHED_WEIGHTS
from detr_d2.wording import counted

from .planning import Plan, StagePlan, duration
from .rules import SOURCES

#: The longest list of classes that is shown whole.
_MOST_CLASSES = 40
#: Between two lines of a command.
_CONTINUED = " \\\n    "


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
    table = [
        (
            each.name,
            "thing" if each.is_thing else "stuff",
            each.segments,
            each.images,
            each.validation_images,
            _note(each),
        )
        for each in shown
    ]
    text = tabulate(table, ["class", "", "segments", "images", "in validation", ""])
    return text + (f"\n... and {len(rows) - len(shown)} classes with more images" if len(rows) > len(shown) else "")


def _note(each: Any) -> str:
    return "none" if not each.images else "few" if each.is_rare else ""


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
