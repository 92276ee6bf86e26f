"""The stages of a planned training: their config, what is changed in it, and the commands to copy."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from detr_d2.checkpoint import PUBLISHED_WEIGHTS
from detr_d2.config import configs_folder, get_config_file, load_config, value_of

from detectron2.config import CfgNode

from .rules import (
    EVALUATIONS,
    LOWER_RATE_AFTER,
    MOST_ENLARGED,
    Recipe,
    learning_rate_for,
    queries_for,
    recipe_for,
)
from .survey import Survey

#: Queries of every published checkpoint.
PUBLISHED_QUERIES = 100
#: Photos below which a tenth of them, above which a hundredth, is what a class needs not to be repeated.
_MANY_IMAGES = 1000

#: Keys that an evaluation doesn't look at.
_OF_TRAINING = ("SOLVER.", "DATALOADER.", "TEST.EVAL_PERIOD", "MODEL.DETR.FREEZE_DETECTOR")

Changes = Mapping[str, str]
#: Words, in the lines in which they are shown.
Command = list[list[str]]


@dataclass(frozen=True)
class Stage:
    """A training.

    Args:
        title: what it trains.
        config_file: the yaml.
        changes: keys and values, as on a command line.
        passes: over the images; 0: as many iterations as the config says.
    """

    title: str
    config_file: str
    changes: Changes
    passes: int = 0

    def config(self) -> CfgNode:
        """Its whole config."""
        return load_config(self.config_file, [word for pair in self.changes.items() for word in pair])

    def changed(self, changes: Changes) -> Stage:
        """The same stage with more keys, which replace those of the same name."""
        return replace(self, changes={**self.changes, **changes})


class Start(NamedTuple):
    """Where a training starts.

    Args:
        boxes_file, masks_file: the yaml of each stage, which may be one.
        weights: what ``MODEL.WEIGHTS`` is to be; empty: from scratch.
    """

    boxes_file: str
    masks_file: str
    weights: str


def find_start(config_file: str) -> Start:
    """The configs and weights of both stages.

    Args:
        config_file: of one stage; empty: configs/detr_R50.yaml. The other's is beside it (``detr_panoptic_X.yaml`` and
            ``detr_X.yaml``), or the same file with other keys.
    """
    path = Path(config_file or get_config_file("detr_R50.yaml"))
    pair = (path, path)
    if path.name.startswith("detr_"):
        stem = path.name.removeprefix("detr_").removeprefix("panoptic_")
        both = path.with_name(f"detr_{stem}"), path.with_name(f"detr_panoptic_{stem}")
        pair = both if all(map(Path.is_file, both)) else pair
    cfg = load_config(str(pair[0]))
    weights = str(cfg.MODEL.WEIGHTS)
    is_stage_2 = cfg.MODEL.DETR.MASK_ON and cfg.MODEL.DETR.FREEZE_DETECTOR
    if is_stage_2 and weights not in PUBLISHED_WEIGHTS:
        weights = ""  # it names what stage 1 is still to make
    return Start(str(pair[0]), str(pair[1]), weights)


def fitting_weights(cfg: CfgNode) -> str:
    """The published weights of a config's network, by short name; empty where there are none."""
    detr, resnets = cfg.MODEL.DETR, cfg.MODEL.RESNETS
    network = (detr.HIDDEN_DIM, detr.NHEADS, detr.DIM_FEEDFORWARD, detr.ENC_LAYERS, detr.DEC_LAYERS, detr.PRE_NORM)
    is_published = network == (256, 8, 2048, 6, 6, False) and cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone"
    name = f"detr-r{resnets.DEPTH}{'-dc5' if resnets.RES5_DILATION == 2 else ''}"
    return next((one for one in (f"{name}-panoptic", name) if is_published and one in PUBLISHED_WEIGHTS), "")


def draft(start: Start, survey: Survey, register: list[Any], options: Changes) -> tuple[list[Stage], Recipe]:
    """The stages with all keys but those that follow from what is measured.

    Args:
        start: configs and weights.
        survey: of the dataset.
        register: what ``DATASETS.REGISTER`` is to be.
        options: keys and values of the command line, for both stages.

    Returns:
        Stage 1 and, for a panoptic dataset, stage 2; the row of the rules.
    """
    recipe = recipe_for(survey.images)
    weights = options.get("MODEL.WEIGHTS", start.weights)
    is_joint = survey.is_panoptic and recipe.first == "joint" and weights.endswith("-panoptic")
    first_file = start.masks_file if is_joint else start.boxes_file
    cfg = load_config(first_file)
    common = {**_dataset_changes(cfg, survey, register), **_fitting_changes(cfg, survey, weights)}
    stage_1 = Stage(
        "boxes, classes and masks together" if is_joint else "boxes over things and stuff",
        first_file,
        {**common, **_mask_changes(cfg, is_joint, False), "MODEL.WEIGHTS": weights, **options},
        recipe.passes if weights else 0,
    )
    if not survey.is_panoptic:
        return [replace(stage_1, title="boxes")], recipe
    masks = load_config(start.masks_file)
    # A config of stage 2 says itself what it trains; one file for both stages can't.
    is_frozen = bool(masks.MODEL.DETR.FREEZE_DETECTOR) or start.masks_file == start.boxes_file
    title = "the mask head, over the frozen detector" if is_frozen else "the mask head, and all else with it"
    changes = {**common, **_mask_changes(masks, True, is_frozen), **options}
    stage_2 = Stage(title, start.masks_file, changes, recipe.mask_passes if weights else 0)
    return [stage_1, stage_2], recipe


def _dataset_changes(cfg: CfgNode, survey: Survey, register: list[Any]) -> Changes:
    validation = [survey.validation] if survey.validation else []
    changes = {"DATASETS.TRAIN": json.dumps([survey.name]), "DATASETS.TEST": json.dumps(validation)}
    is_known = register == list(cfg.DATASETS.REGISTER)
    return changes if is_known else {"DATASETS.REGISTER": json.dumps(register, ensure_ascii=False), **changes}


def _mask_changes(cfg: CfgNode, has_masks: bool, is_frozen: bool) -> Changes:
    wanted = {"MASK_ON": has_masks, "FREEZE_DETECTOR": is_frozen}
    return {f"MODEL.DETR.{key}": str(value) for key, value in wanted.items() if cfg.MODEL.DETR[key] != value}


def _fitting_changes(cfg: CfgNode, survey: Survey, weights: str) -> Changes:
    """What the machine and the dataset ask for: device, queries, sizes of images, rare classes."""
    changes: dict[str, str] = {}
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        changes["MODEL.DEVICE"] = "cpu"
    published = PUBLISHED_QUERIES if weights in PUBLISHED_WEIGHTS else cfg.MODEL.DETR.NUM_QUERIES
    queries = queries_for(survey.most_segments, published)
    if queries != cfg.MODEL.DETR.NUM_QUERIES:
        changes["MODEL.DETR.NUM_QUERIES"] = str(queries)
    changes |= _size_changes(cfg, survey.short_side)
    threshold = 0.1 if survey.images < _MANY_IMAGES else 0.01
    is_plain = cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler"
    if is_plain and any(each.images < threshold * survey.images for each in survey.rare):
        changes["DATALOADER.SAMPLER_TRAIN"] = "RepeatFactorTrainingSampler"
        changes["DATALOADER.REPEAT_THRESHOLD"] = str(threshold)
    return changes


def _size_changes(cfg: CfgNode, short_side: int) -> Changes:
    """For small images, the config's sizes in proportion; nothing where they fit."""
    inputs = cfg.INPUT
    if not inputs.MIN_SIZE_TEST or MOST_ENLARGED * short_side >= inputs.MIN_SIZE_TEST:
        return {}
    factor = MOST_ENLARGED * short_side / inputs.MIN_SIZE_TEST

    def scaled(value: int) -> int:
        return max(32, 8 * round(value * factor / 8))

    keys = ["MIN_SIZE_TRAIN", "MAX_SIZE_TRAIN", "MIN_SIZE_TEST", "MAX_SIZE_TEST"]
    keys += ["DETR_CROP.RESIZE_SIZES", "DETR_CROP.MIN_SIZE", "DETR_CROP.MAX_SIZE"] if inputs.DETR_CROP.ENABLED else []
    changes = {}
    for key in keys:
        value = value_of(inputs, key)
        found = scaled(value) if isinstance(value, int) else sorted(set(map(scaled, value)))
        changes[f"INPUT.{key}"] = json.dumps(found)
    return changes


def iterations_of(stage: Stage, images: int, batch: int) -> int:
    """How many iterations a stage is to have with batches of so many images, unless its keys say so."""
    solver = stage.config().SOLVER
    if "SOLVER.MAX_ITER" in stage.changes:
        return max(2, int(solver.MAX_ITER))
    shown = stage.passes * images or solver.MAX_ITER * solver.IMS_PER_BATCH
    return max(2, math.ceil(shown / batch))


def evaluations_of(stage: Stage, iterations: int) -> int:
    """How often a stage evaluates its model, the last evaluation included, unless its time is short."""
    if "TEST.EVAL_PERIOD" not in stage.changes:
        return EVALUATIONS
    return math.ceil(iterations / (stage.config().TEST.EVAL_PERIOD or iterations))


def scheduled(stage: Stage, batch: int, iterations: int, evaluations: int, output: str) -> Stage:
    """The stage with batch, learning rate, iterations and schedule, evaluations and its output folder.

    What its keys say already of the schedule, the evaluations and the checkpoints stays.

    Args:
        stage: without them.
        batch: images of a step.
        iterations: at least 2.
        evaluations: how many at most, the last one included.
        output: ``OUTPUT_DIR``.
    """
    cfg = stage.config()
    solver, period = cfg.SOLVER, math.ceil(iterations / evaluations)
    sizes = {"SOLVER.MAX_ITER": str(iterations), "OUTPUT_DIR": output}
    if batch != solver.IMS_PER_BATCH:
        rate = learning_rate_for(solver.BASE_LR, solver.IMS_PER_BATCH, batch)
        sizes = {"SOLVER.IMS_PER_BATCH": str(batch), "SOLVER.BASE_LR": str(rate), **sizes}
    changes = {}
    steps = [LOWER_RATE_AFTER] if stage.passes else [step / solver.MAX_ITER for step in solver.STEPS]
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR" and steps:
        places = {round(part * iterations) for part in steps}
        changes["SOLVER.STEPS"] = json.dumps(sorted(place for place in places if 0 < place < iterations))
    if iterations < 10 * solver.WARMUP_ITERS:
        changes["SOLVER.WARMUP_ITERS"] = str(iterations // 10)
    changes |= {"SOLVER.CHECKPOINT_PERIOD": str(period), "SOLVER.CHECKPOINT_KEEP": "2"}
    if cfg.DATASETS.TEST:
        changes["TEST.EVAL_PERIOD"] = str(period)
    return stage.changed({key: value for key, value in changes.items() if key not in stage.changes} | sizes)


def train_command(stage: Stage, *options: str) -> Command:
    """The command that trains a stage.

    Args:
        stage: to train.
        options: of ``train_net.py``, before the first key.
    """
    script = Path("train_net.py")
    if not script.is_file() and (beside := configs_folder().parent / script).is_file():
        script = beside
    lines = [["python", _shown(str(script)), "--config-file", _shown(stage.config_file), *options]]
    return lines + [list(pair) for pair in stage.changes.items()]


def _shown(path: str) -> str:
    """A path as one would type it here."""
    near = os.path.relpath(path)
    return os.path.abspath(path) if near.startswith(os.pardir) else near


def commands(stages: list[Stage], survey: Survey, register: list[Any]) -> dict[str, Command]:
    """What to copy, in order: a title and a command each.

    Args:
        stages: scheduled, each of which starts where the one before ended.
        survey: of the dataset.
        register: of ``DATASETS.REGISTER``.
    """
    found = {f"stage {i + 1}: {stage.title}": train_command(stage) for i, stage in enumerate(stages)}
    last = stages[-1]
    final = os.path.join(last.changes["OUTPUT_DIR"], "model_final.pth")
    if not survey.validation:
        return found
    used = {key: value for key, value in last.changes.items() if not key.startswith(_OF_TRAINING)}
    found["evaluation"] = train_command(replace(last, changes={**used, "MODEL.WEIGHTS": final}), "--eval-only")
    if survey.is_panoptic:
        words = ["detr-d2", "sweep", final, "--dataset", survey.validation]
        registered = [word for one in register if isinstance(one, str) for word in ("--register", one)]
        found["thresholds"] = [[*words, *registered, "--store"]]
    return found
