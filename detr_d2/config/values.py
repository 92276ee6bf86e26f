"""Which values each key of a config may have: one table, looked at before anything is built or written.

What keys have to be together, and whether there is such a device, is in ``agreement.py``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detr_d2.errors import ConfigError

from detectron2.config import CfgNode


@dataclass(frozen=True)
class Rule:
    """What a key may be.

    Args:
        text: in words, as the end of "allowed are ...".
        accepts: whether a value is allowed; any value may come.
    """

    text: str
    accepts: Callable[[Any], bool]


def check_values(cfg: CfgNode, *sections: str) -> None:
    """Refuses a config with a value that no key of that name may have.

    Args:
        cfg: keys that it lacks are not looked at.
        sections: what the keys to look at begin with, such as "SOLVER."; none: all.

    Raises:
        ConfigError: naming the key, its value and what is allowed.
    """
    for key, rule in ALLOWED.items():
        if sections and not key.startswith(sections):
            continue
        value: Any = cfg
        for part in key.split("."):
            value = value.get(part, cfg) if isinstance(value, CfgNode) else cfg
        if value is not cfg and not rule.accepts(value):
            shown = repr(value) if len(repr(value)) < 200 else f"{repr(value)[:200]} ..."
            raise ConfigError(f"{key} is {shown}; allowed are {rule.text}.")


def _whole(least: int, most: int) -> Rule:
    return Rule(
        f"whole numbers from {least} to {most}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
    )


def _number(least: float = -math.inf, most: float = math.inf, *, above: bool = False, below: bool = False) -> Rule:
    """Finite numbers; ``above`` and ``below`` leave out the ends."""

    def accepts(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return (value > least if above else value >= least) and (value < most if below else value <= most)

    start = f"above {least:g}" if above else f"from {least:g}" if least > -math.inf else ""
    end = f"{'below' if below else 'to' if start and not above else 'up to'} {most:g}" if most < math.inf else ""
    return Rule(" ".join(filter(None, ("numbers" if start and end else "finite numbers", start, end))), accepts)


def _one_of(*words: str | int) -> Rule:
    shown = [repr(word) if word == "" else str(word) for word in words]
    text = f"{', '.join(shown[:-1])} and {shown[-1]}"
    return Rule(text, lambda value: any(type(value) is type(word) and value == word for word in words))


def _list_of(each: Rule, least: int = 0, most: int = 1_000_000) -> Rule:
    count = str(least) if least == most else f"{least} or more" if least else ""
    return Rule(
        f"lists of {count + ' ' if count else ''}{each.text}",
        lambda value: isinstance(value, list | tuple) and least <= len(value) <= most and all(map(each.accepts, value)),
    )


def _rising(each: Rule) -> Rule:
    """A list whose entries are each larger than the one before."""
    entries = _list_of(each)
    return Rule(
        f"{entries.text}, each larger than the one before",
        lambda value: entries.accepts(value) and all(a < b for a, b in itertools.pairwise(value)),
    )


def _distinct(each: Rule, least: int) -> Rule:
    entries = _list_of(each, least)
    return Rule(f"{entries.text}, each once", lambda value: entries.accepts(value) and len(set(value)) == len(value))


def _or_none(rule: Rule) -> Rule:
    return Rule(f"None and {rule.text}", lambda value: value is None or rule.accepts(value))


def _is_expected_result(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 4:
        return False
    return all(isinstance(word, str) for word in value[:2]) and all(map(_ANY_NUMBER.accepts, value[2:]))


_FLAG = Rule("True and False", lambda value: isinstance(value, bool))
_TEXT = Rule("texts", lambda value: isinstance(value, str) and "\0" not in value)
_NAME = Rule("texts that aren't empty", lambda value: _TEXT.accepts(value) and bool(value.strip()))
_ANY_NUMBER, _PART, _WEIGHT, _ABOVE_0 = _number(), _number(0, 1), _number(0, 1e6), _number(0, above=True)
_FROM_0 = _number(0)
_COUNT, _COUNT_OR_0 = _whole(1, 10**9), _whole(0, 10**9)
_WIDTH, _PIXELS = _whole(1, 65_536), _whole(1, 100_000)
_MODE = _one_of("auto", "max", "min")

#: A rule for each key.
ALLOWED: dict[str, Rule] = {
    "MODEL.META_ARCHITECTURE": _NAME,
    "MODEL.DEVICE": _NAME,
    "MODEL.WEIGHTS": _TEXT,
    "MODEL.MASK_ON": _FLAG,
    "MODEL.PIXEL_MEAN": _list_of(_number(-1e6, 1e6), 3, 3),
    "MODEL.PIXEL_STD": _list_of(_number(0, 1e6, above=True), 3, 3),
    "MODEL.BACKBONE.NAME": _NAME,
    "MODEL.BACKBONE.FREEZE_AT": _whole(0, 5),
    "MODEL.TIMM.NAME": _TEXT,
    "MODEL.TIMM.PRETRAINED": _FLAG,
    "MODEL.TIMM.WEIGHTS": _TEXT,
    "MODEL.TIMM.FREEZE_BN": _FLAG,
    "MODEL.TIMM.LAYER_DECAY": _number(0, 1, above=True),
    "MODEL.RESNETS.DEPTH": _one_of(18, 34, 50, 101, 152),
    "MODEL.RESNETS.OUT_FEATURES": _distinct(_one_of("stem", "res2", "res3", "res4", "res5"), 1),
    "MODEL.RESNETS.NORM": _one_of(
        *("", "BN", "SyncBN", "FrozenBN", "GN"),
        *("nnSyncBN", "naiveSyncBN", "naiveSyncBN_N", "LN"),  # of an installed Detectron2 only
    ),
    "MODEL.RESNETS.STRIDE_IN_1X1": _FLAG,
    "MODEL.RESNETS.RES5_DILATION": _one_of(1, 2),
    "MODEL.RESNETS.NUM_GROUPS": _WIDTH,
    "MODEL.RESNETS.WIDTH_PER_GROUP": _WIDTH,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": _WIDTH,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": _WIDTH,
    "MODEL.RESNETS.DEFORM_MODULATED": _FLAG,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": _list_of(_FLAG, 4, 4),
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": _WIDTH,
    "MODEL.DETR.HIDDEN_DIM": _WIDTH,
    "MODEL.DETR.NHEADS": _WIDTH,
    "MODEL.DETR.DIM_FEEDFORWARD": _WIDTH,
    "MODEL.DETR.ENC_LAYERS": _whole(0, 1000),
    "MODEL.DETR.DEC_LAYERS": _whole(1, 1000),
    "MODEL.DETR.DROPOUT": _number(0, 1, below=True),
    "MODEL.DETR.PRE_NORM": _FLAG,
    "MODEL.DETR.MEMORY_FEATURE": _one_of("res4", "res5"),
    "MODEL.DETR.NUM_QUERIES": _whole(1, 10_000),
    "MODEL.DETR.COST_CLASS": _WEIGHT,
    "MODEL.DETR.COST_L1": _WEIGHT,
    "MODEL.DETR.COST_GIOU": _WEIGHT,
    "MODEL.DETR.CLASS_WEIGHT": _WEIGHT,
    "MODEL.DETR.L1_WEIGHT": _WEIGHT,
    "MODEL.DETR.GIOU_WEIGHT": _WEIGHT,
    "MODEL.DETR.MASK_WEIGHT": _WEIGHT,
    "MODEL.DETR.DICE_WEIGHT": _WEIGHT,
    "MODEL.DETR.MASK_ID_WEIGHT": _WEIGHT,
    "MODEL.DETR.MASK_POINTS": _whole(0, 10**7),
    "MODEL.DETR.NO_OBJECT_WEIGHT": _number(0, 1e6, above=True),  # 0: nothing to average where no segment is
    "MODEL.DETR.FOCAL_ALPHA": _number(most=1),
    "MODEL.DETR.FOCAL_GAMMA": _number(0, 1000),
    "MODEL.DETR.DEEP_SUPERVISION": _FLAG,
    "MODEL.DETR.DENOISING_GROUPS": _whole(0, 1000),
    "MODEL.DETR.DENOISING_BOX_NOISE": _PART,
    "MODEL.DETR.DENOISING_LABEL_NOISE": _PART,
    "MODEL.DETR.DENSE_LOSSES": _FLAG,
    "MODEL.DETR.MASK_ON": _FLAG,
    "MODEL.DETR.FREEZE_DETECTOR": _FLAG,
    "MODEL.DETR.ATTENTION_GAIN": _number(0, 1e6, above=True),
    "MODEL.DETR.MASK_CHUNK_BYTES": _whole(1, 2**50),
    "MODEL.DETR.MASK_CHECKPOINT": _FLAG,
    "MODEL.DETR.SCORE_THRESHOLD": _PART,
    "MODEL.DETR.CLASS_SCORE_THRESHOLDS": _list_of(_PART),
    "MODEL.DETR.OVERLAP_THRESHOLD": _PART,
    "MODEL.DETR.MIN_SEGMENT_AREA": _COUNT_OR_0,
    "MODEL.DETR.INSTANCE_SCORE_THRESHOLD": _PART,
    "MODEL.DETR.PANOPTIC_ON": _FLAG,
    "MODEL.DETR.INSTANCE_ON": _FLAG,
    "MODEL.DETR.TRAINING_DTYPE": _one_of("float32", "bfloat16"),
    "MODEL.DETR.INFERENCE_DTYPE": _one_of("float32", "bfloat16", "auto"),
    "MODEL.DETR.COMPILE_BACKBONE": _FLAG,
    "INPUT.MIN_SIZE_TRAIN": _list_of(_whole(0, 100_000), 1),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": _one_of("choice", "range"),
    "INPUT.MAX_SIZE_TRAIN": _PIXELS,
    "INPUT.MIN_SIZE_TEST": _whole(0, 100_000),
    "INPUT.MAX_SIZE_TEST": _PIXELS,
    "INPUT.RANDOM_FLIP": _one_of("horizontal", "vertical", "none"),
    "INPUT.FORMAT": _one_of("RGB", "BGR"),
    "INPUT.MASK_FORMAT": _one_of("polygon", "bitmask"),
    "INPUT.MASK_STRIDE": _whole(1, 1024),
    "INPUT.CROP.ENABLED": _FLAG,
    "INPUT.CROP.TYPE": _one_of("relative", "relative_range", "absolute", "absolute_range"),
    "INPUT.CROP.SIZE": _list_of(_number(0, 100_000, above=True), 2, 2),
    "INPUT.DETR_CROP.ENABLED": _FLAG,
    "INPUT.DETR_CROP.PROB": _PART,
    "INPUT.DETR_CROP.RESIZE_SIZES": _list_of(_PIXELS),
    "INPUT.DETR_CROP.MIN_SIZE": _PIXELS,
    "INPUT.DETR_CROP.MAX_SIZE": _PIXELS,
    "INPUT.LSJ.ENABLED": _FLAG,
    "INPUT.LSJ.SIZE": _PIXELS,
    "INPUT.LSJ.MIN_SCALE": _number(0, 100, above=True),
    "INPUT.LSJ.MAX_SCALE": _number(0, 100, above=True),
    "INPUT.LSJ.PAD": _FLAG,
    "INPUT.COLOR_JITTER.ENABLED": _FLAG,
    "INPUT.COLOR_JITTER.PROB": _PART,
    "INPUT.COLOR_JITTER.BRIGHTNESS": _number(0, 100),
    "INPUT.COLOR_JITTER.CONTRAST": _number(0, 100),
    "INPUT.COLOR_JITTER.SATURATION": _number(0, 100),
    "INPUT.COLOR_JITTER.HUE": _number(0, 0.5),
    "INPUT.RICAP.ENABLED": _FLAG,
    "INPUT.RICAP.PROB": _PART,
    "INPUT.RICAP.BETA": _number(0, 1e6, above=True),
    "INPUT.COPY_PASTE.ENABLED": _FLAG,
    "INPUT.COPY_PASTE.PROB": _PART,
    "INPUT.COPY_PASTE.MIN_SCALE": _number(0, 100, above=True),
    "INPUT.COPY_PASTE.MAX_SCALE": _number(0, 100, above=True),
    "DATASETS.TRAIN": _list_of(_NAME),
    "DATASETS.TEST": _list_of(_NAME),
    "DATASETS.REGISTER": _list_of(Rule("yaml files and mappings", lambda value: isinstance(value, str | dict))),
    "DATASETS.CHECK": _one_of("quick", "full", "off"),
    "DATALOADER.NUM_WORKERS": _whole(0, 512),
    "DATALOADER.ASPECT_RATIO_GROUPING": _FLAG,
    "DATALOADER.SAMPLER_TRAIN": _one_of(
        *("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"),
        *("WeightedTrainingSampler", "WeightedCategoryTrainingSampler"),
    ),
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": _FLAG,
    "DATALOADER.REPEAT_THRESHOLD": _PART,
    "DATALOADER.REPEAT_SQRT": _FLAG,
    "SOLVER.IMS_PER_BATCH": _whole(1, 65_536),
    "SOLVER.ACCUMULATE_BATCHES": _whole(1, 65_536),
    "SOLVER.MAX_ITER": _COUNT,
    "SOLVER.CHECKPOINT_PERIOD": _COUNT,
    "SOLVER.CHECKPOINT_KEEP": _COUNT_OR_0,
    "SOLVER.REFERENCE_WORLD_SIZE": _COUNT_OR_0,
    "SOLVER.MAX_SKIPPED_STEPS": _COUNT_OR_0,
    "SOLVER.OPTIMIZER": _one_of("ADAMW", "SGD"),
    "SOLVER.BASE_LR": _ABOVE_0,
    "SOLVER.BACKBONE_MULTIPLIER": _FROM_0,
    "SOLVER.BACKBONE_LAYER_DECAY": _number(0, 1, above=True),
    "SOLVER.MASK_HEAD_MULTIPLIER": _FROM_0,
    "SOLVER.BASE_LR_END": _FROM_0,
    # fvcore's WarmupStepWithFixedGammaLR fails in the last iteration, before the last checkpoint is written.
    "SOLVER.LR_SCHEDULER_NAME": _one_of("WarmupMultiStepLR", "WarmupCosineLR"),
    "SOLVER.GAMMA": _number(0, 10),
    "SOLVER.STEPS": _rising(_COUNT),
    "SOLVER.NUM_DECAYS": _COUNT_OR_0,
    "SOLVER.WARMUP_METHOD": _one_of("linear", "constant"),
    "SOLVER.WARMUP_ITERS": _COUNT_OR_0,
    "SOLVER.WARMUP_FACTOR": _WEIGHT,
    "SOLVER.RESCALE_INTERVAL": _FLAG,
    "SOLVER.MOMENTUM": _PART,
    "SOLVER.NESTEROV": _FLAG,
    "SOLVER.BIAS_LR_FACTOR": _or_none(_FROM_0),
    "SOLVER.WEIGHT_DECAY": _FROM_0,
    "SOLVER.WEIGHT_DECAY_NORM": _or_none(_FROM_0),
    "SOLVER.WEIGHT_DECAY_BIAS": _or_none(_FROM_0),
    "SOLVER.AMP.ENABLED": _FLAG,
    "SOLVER.CLIP_GRADIENTS.ENABLED": _FLAG,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": _one_of("full_model", "norm", "value"),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": _ABOVE_0,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": Rule(
        "numbers above 0, and infinity", lambda value: _ABOVE_0.accepts(value) or value == math.inf
    ),
    "MODEL_EMA.ENABLED": _FLAG,
    "MODEL_EMA.DECAY": _PART,
    "MODEL_EMA.TAU": _ABOVE_0,
    "TEST.EVAL_PERIOD": _COUNT_OR_0,
    "TEST.EXPECTED_RESULTS": _list_of(Rule("[task, metric, value, tolerance]", _is_expected_result)),
    "TEST.DETECTIONS_PER_IMAGE": _COUNT,
    "TEST.PRECISE_BN.ENABLED": _FLAG,
    "TEST.PRECISE_BN.NUM_ITER": _COUNT,
    "TEST.AUG.ENABLED": _FLAG,
    "TEST.AUG.FLIP": _FLAG,
    "TEST.AUG.MIN_SIZES": _list_of(_PIXELS),
    "TEST.AUG.MAX_SIZE": _PIXELS,
    "TEST.PANOPTIC_EVALUATOR": _one_of("detr_d2", "coco"),
    "TEST.PANOPTIC_PNG": _FLAG,
    "TEST.BOUNDARY_PQ": _FLAG,
    "TEST.BOOTSTRAP": _whole(0, 100_000),
    "TEST.MASK_AP": _FLAG,
    "TEST.VALIDATION_LOSS": _FLAG,
    "TEST.SCENES": _whole(0, 1000),
    "TEST.BEST_CHECKPOINT.METRIC": _TEXT,
    "TEST.BEST_CHECKPOINT.MODE": _MODE,
    "TEST.EARLY_STOPPING.METRIC": _TEXT,
    "TEST.EARLY_STOPPING.MODE": _MODE,
    "TEST.EARLY_STOPPING.PATIENCE": _COUNT_OR_0,
    "TEST.EARLY_STOPPING.MIN_DELTA": _FROM_0,
    "OUTPUT_DIR": _NAME,
    "SEED": _whole(-(2**31), 4 * 10**9),
    "CUDNN_BENCHMARK": _FLAG,
    "FLOAT32_PRECISION": _one_of("", "highest", "high", "medium"),
    "VIS_PERIOD": _COUNT_OR_0,
}
