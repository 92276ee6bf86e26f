"""From a dataset's counts and what was measured to a plan: batches, iterations, time, memory, warnings, commands."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from detr_d2.checkpoint import PUBLISHED_WEIGHTS
from detr_d2.errors import ConfigError
from detr_d2.wording import counted, some

from .measuring import MOST_MEMORY, Measured, free_memory
from .rules import EVALUATIONS, FEW_IMAGES, FROM_SCRATCH, SOURCES, Recipe
from .stages import Command, Stage, commands, evaluations_of, fitting_weights, iterations_of, scheduled
from .survey import Survey

#: With fewer passes over the images than this, hardly anything is learnt.
_FEWEST_PASSES = 5
_DAY = 24 * 3600
#: The part of a shortened training that evaluations take at most, but for the last one.
_MOST_EVALUATING = 0.25
#: From here on a measurement is said to have been disturbed.
_BUSY = 1.3
_MOST_NAMED = 8


@dataclass(frozen=True)
class StagePlan:
    """What is planned for a stage; times in seconds and memory in bytes are None where nothing was measured.

    Args:
        stage: with all its keys.
        wanted_batch: images of a step that the rules ask for.
        batch: those that the memory holds.
        iterations: of the training.
        evaluations: during it, the last one included.
        survey: of the dataset.
        measured: steps of the stage; None: nothing was measured.
    """

    stage: Stage
    wanted_batch: int
    batch: int
    iterations: int
    evaluations: int
    survey: Survey
    measured: Measured | None

    @property
    def passes(self) -> float:
        """How often each image is seen."""
        return self.iterations * self.batch / self.survey.images

    @property
    def step_seconds(self) -> float | None:
        """Of an iteration."""
        return None if self.measured is None else self.measured.seconds(self.batch)

    @property
    def evaluation_seconds(self) -> float | None:
        """Of all evaluations, without what isn't the model's."""
        if self.measured is None:
            return None
        return self.measured.evaluation * self.survey.validation_images * min(self.evaluations, self.iterations)

    @property
    def seconds(self) -> float | None:
        """Of the whole stage."""
        step, evaluations = self.step_seconds, self.evaluation_seconds
        return None if step is None or evaluations is None else self.iterations * step + evaluations

    @property
    def memory(self) -> int | None:
        """What the process is to need."""
        return None if self.measured is None else self.measured.memory(self.batch)

    @property
    def measured_batch(self) -> int:
        """The largest batch that was measured; 0: none."""
        return 0 if self.measured is None else self.measured.points[-1].batch


@dataclass(frozen=True)
class Plan:
    """A dataset and the training planned for it.

    Args:
        survey: of the dataset.
        recipe: the row of the rules.
        stages: one or two.
        warnings: sentences.
        commands: what to copy, by title.
    """

    survey: Survey
    recipe: Recipe
    stages: tuple[StagePlan, ...]
    warnings: tuple[str, ...]
    commands: dict[str, Command]

    @property
    def seconds(self) -> float | None:
        """Of all stages; None: not measured."""
        found = [each.seconds for each in self.stages if each.seconds is not None]
        return sum(found) if len(found) == len(self.stages) else None


def make_plan(
    survey: Survey,
    stages: Sequence[Stage],
    recipe: Recipe,
    register: list[Any],
    measure: Callable[[Stage, int], Measured] | None,
    minutes: float | None,
) -> Plan:
    """Plans the stages of a training.

    Args:
        survey: of the dataset.
        stages: of :func:`detr_d2.plan.stages.draft`.
        recipe: likewise.
        register: of ``DATASETS.REGISTER``.
        measure: measures a stage with batches of up to so many images; None: nothing is measured.
        minutes: that all stages may take together; None: as many as they need.

    Raises:
        ConfigError: minutes are given, and nothing is measured.
    """
    if minutes is not None and measure is None:
        raise ConfigError("--minutes says what fits into a time, which has to be measured; leave out --no-measure.")
    room = MOST_MEMORY * free_memory(stages[0].config().MODEL.DEVICE)
    planned = [_planned(stage, survey, recipe, measure, room) for stage in stages]
    needed = sum(each.seconds or 0.0 for each in planned)
    if minutes is not None and needed > 60 * minutes:
        planned = [_shortened(each, 60 * minutes / needed) for each in planned]
    planned = _in_folders(planned, survey)
    warnings = [
        *_data_warnings(survey),
        *_start_warnings(planned, survey),
        *_machine_warnings(planned, minutes),
    ]
    texts = commands([each.stage for each in planned], survey, register)
    return Plan(survey, recipe, tuple(planned), tuple(warnings), texts)


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it."""
    if seconds is None:
        return "not measured"
    for limit, unit, size in ((90, "s", 1), (90 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            value = seconds / size
            return (
                f"{value:.2g} {unit}" if value < 1 else f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
            )
    return f"{seconds / 86400:.1f} days"


def _planned(
    stage: Stage,
    survey: Survey,
    recipe: Recipe,
    measure: Callable[[Stage, int], Measured] | None,
    room: float,
) -> StagePlan:
    """A stage with the largest batch, halved again and again, that so many bytes are likely to hold."""
    batch = int(stage.config().SOLVER.IMS_PER_BATCH)
    wanted = batch = min(batch, recipe.batch) if stage.passes else batch
    measured = None if measure is None else measure(stage, wanted)
    while measured is not None and batch > 1 and measured.memory(batch) > room:
        batch //= 2
    iterations = iterations_of(stage, survey.images, batch)
    return StagePlan(stage, wanted, batch, iterations, evaluations_of(stage, iterations), survey, measured)


def _shortened(planned: StagePlan, part: float) -> StagePlan:
    """A stage that takes a part of its time, of which evaluations, fewer if need be, take a quarter at most."""
    seconds, step, evaluating = planned.seconds, planned.step_seconds, planned.evaluation_seconds
    assert seconds is not None and step is not None and evaluating is not None  # only what is measured is shortened
    if "TEST.EVAL_PERIOD" in planned.stage.changes:
        iterations = max(2, math.floor(planned.iterations * part))
        return replace(planned, iterations=iterations, evaluations=evaluations_of(planned.stage, iterations))
    one, room = evaluating / EVALUATIONS, seconds * part
    evaluations = EVALUATIONS if one <= 0 else max(1, min(EVALUATIONS, math.floor(_MOST_EVALUATING * room / one)))
    return replace(planned, evaluations=evaluations, iterations=max(2, math.floor((room - evaluations * one) / step)))


def _in_folders(planned: Sequence[StagePlan], survey: Survey) -> list[StagePlan]:
    """The stages with their schedule and folders, each starting where the one before ended."""
    name = re.sub(r"[^0-9A-Za-z_-]+", "_", os.path.basename(survey.name).removesuffix(".json")).removesuffix("_train")
    found: list[StagePlan] = []
    for number, each in enumerate(planned, 1):
        folder = os.path.join(each.stage.changes.get("OUTPUT_DIR", os.path.join("output", name)), f"stage{number}")
        stage = scheduled(each.stage, each.batch, each.iterations, each.evaluations, folder)
        if found:
            before = found[-1].stage.changes["OUTPUT_DIR"]
            stage = stage.changed({"MODEL.WEIGHTS": os.path.join(before, "model_final.pth")})
        found.append(replace(each, stage=stage))
    return found


def _data_warnings(survey: Survey) -> list[str]:
    """What is to be said of the labels."""
    found = []
    if survey.absent:
        found.append(
            f"No image to train on shows {some(survey.absent, _MOST_NAMED)}: such a class can't be learnt. Label some, "
            "or leave the class out when you prepare the dataset."
        )
    if survey.rare:
        names = [f"{each.name} ({counted(each.images, 'image')})" for each in survey.rare]
        found.append(
            f"Few examples, in {FEW_IMAGES} images or fewer: {some(names, _MOST_NAMED)}. Expect little of these "
            "classes. Label more of them ('detr-d2 predict --rank' finds images worth labelling), give classes that "
            "you needn't tell apart one name, or let their images come more often (DATALOADER.REPEAT_THRESHOLD)."
        )
    if not survey.validation:
        found.append(
            "There is no validation set, so nothing will say how good the model is. 'detr-d2 prepare --val 0.1' splits "
            "one off; register it beside the other, with 'val' for 'train' in its name."
        )
    elif survey.unseen:
        found.append(
            f"No validation image shows {some(survey.unseen, _MOST_NAMED)}: how well they are found won't be known. "
            "Split again with more images ('detr-d2 prepare --val'), or label some."
        )
    if not survey.is_panoptic:
        found.append(
            "These labels are boxes of things, so there is no stage of masks and no panoptic quality. 'detr-d2 "
            "prepare' makes a panoptic dataset of masks or polygons."
        )
    return found


def _start_warnings(planned: Sequence[StagePlan], survey: Survey) -> list[str]:
    """What is to be said of weights and queries."""
    cfg, found = planned[0].stage.config(), []
    queries = int(cfg.MODEL.DETR.NUM_QUERIES)
    if survey.most_segments > queries:
        found.append(
            f"{survey.fullest} has {survey.most_segments} segments, and {queries} queries give {queries} at most. Set "
            f"MODEL.DETR.NUM_QUERIES {survey.most_segments} or more."
        )
    if cfg.MODEL.WEIGHTS or survey.images >= FROM_SCRATCH:
        return found
    name = fitting_weights(cfg)
    if name:
        way = f"--opts MODEL.WEIGHTS {name}, which is fetched once from {PUBLISHED_WEIGHTS[name]}"
    else:
        example = "detr-r50-panoptic"
        way = (
            "without --config-file: configs/detr_R50.yaml starts from such weights, fetched once from "
            f"{PUBLISHED_WEIGHTS[example]}; no published ones fit the network of {planned[0].stage.config_file}"
        )
    found.append(
        f"This starts from scratch, and {survey.images:,} photos are few for that: DETR's authors had success with "
        f"10,000 and more, others none with 2,000 ({SOURCES['detr 125'][0]}). Weights trained on COCO nearly always do "
        f"better on photos. Plan {way}."
    )
    return found


def _machine_warnings(planned: Sequence[StagePlan], minutes: float | None) -> list[str]:
    """What is to be said of memory and time."""
    found = []
    for number, each in enumerate(planned, 1):
        cfg = each.stage.config()
        free = free_memory(cfg.MODEL.DEVICE)
        if each.memory is not None and each.memory > MOST_MEMORY * free:
            found.append(
                f"Stage {number} needs about {_gib(each.memory)} even with one image at a time, and "
                f"{_gib(free)} are free. Smaller images need less, such as --opts INPUT.MAX_SIZE_TRAIN "
                f"{round(cfg.INPUT.MAX_SIZE_TRAIN / 2**0.5)}."
            )
        elif each.batch < each.wanted_batch:
            found.append(
                f"Stage {number} has batches of {each.batch} instead of {each.wanted_batch}, as {_gib(free)} of memory "
                "are free; the learning rate is lowered with it."
            )
        if minutes is not None and each.passes < _FEWEST_PASSES:
            found.append(
                f"In this time stage {number} sees each image {each.passes:.1f} times, which is hardly enough to learn "
                "anything. Take more time, a GPU, or smaller images (INPUT.MIN_SIZE_TRAIN, MAX_SIZE_TRAIN: half the "
                "side takes about a quarter of the time)."
            )
    slowed = [1.0 if each.measured is None else each.measured.slowed for each in planned]
    if max(slowed) > _BUSY:
        alone = sum((each.seconds or 0.0) / factor for each, factor in zip(planned, slowed))
        found.append(
            f"Other programs used the processors while this was measured. Alone it takes about {duration(alone)} in "
            "all; plan again when the machine is idle."
        )
    total = sum(each.seconds or 0.0 for each in planned)
    if total > _DAY:
        found.append(
            f"That is {total / _DAY:.1f} days on this machine. Take a GPU if you can; images of half the side take "
            "about a quarter of the time; --minutes says what a shorter training is."
        )
    return found


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
