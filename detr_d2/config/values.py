"""What the values of a config's keys may be, and which of it each of Detectron2's own keys is.

The keys of this project are in ``keys.py``; what keys have to be together, and whether there is such a device, is in
``agreement.py``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a key may be.

    Args:
        text: in words, as the end of "allowed are ...".
        accepts: whether a value is allowed; any value may come.
    """

    text: str
    accepts: Callable[[Any], bool]


def whole(least: int, most: int) -> Rule:
    """Whole numbers between two, both allowed."""
    return Rule(
        f"whole numbers from {least} to {most}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
    )


def number(least: float = -math.inf, most: float = math.inf, *, above: bool = False, below: bool = False) -> Rule:
    """Finite numbers; ``above`` and ``below`` leave out the ends."""

    def accepts(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return (value > least if above else value >= least) and (value < most if below else value <= most)

    start = f"above {least:g}" if above else f"from {least:g}" if least > -math.inf else ""
    end = f"{'below' if below else 'to' if start and not above else 'up to'} {most:g}" if most < math.inf else ""
    return Rule(" ".join(filter(None, ("numbers" if start and end else "finite numbers", start, end))), accepts)


def one_of(*words: str | int) -> Rule:
    """One of some texts or whole numbers."""
    shown = [repr(word) if word == "" else str(word) for word in words]
    text = f"{', '.join(shown[:-1])} and {shown[-1]}"
    return Rule(text, lambda value: any(type(value) is type(word) and value == word for word in words))


def list_of(each: Rule, least: int = 0, most: int = 1_000_000) -> Rule:
    """Lists or tuples with entries of a rule, so many of them."""
    count = str(least) if least == most else f"{least} or more" if least else ""
    return Rule(
        f"lists of {count + ' ' if count else ''}{each.text}",
        lambda value: isinstance(value, list | tuple) and least <= len(value) <= most and all(map(each.accepts, value)),
    )


def rising(each: Rule) -> Rule:
    """A list whose entries are each larger than the one before."""
    entries = list_of(each)
    return Rule(
        f"{entries.text}, each larger than the one before",
        lambda value: entries.accepts(value) and all(a < b for a, b in itertools.pairwise(value)),
    )


def distinct(each: Rule, least: int) -> Rule:
    """A list in which no entry stands twice."""
    entries = list_of(each, least)
    return Rule(f"{entries.text}, each once", lambda value: entries.accepts(value) and len(set(value)) == len(value))


def or_none(rule: Rule) -> Rule:
    """None, or what a rule allows."""
    return Rule(f"None and {rule.text}", lambda value: value is None or rule.accepts(value))


def _is_expected_result(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 4:
        return False
    return all(isinstance(word, str) for word in value[:2]) and all(map(ANY_NUMBER.accepts, value[2:]))


FLAG = Rule("True and False", lambda value: isinstance(value, bool))
TEXT = Rule("texts", lambda value: isinstance(value, str) and "\0" not in value)
NAME = Rule("texts that aren't empty", lambda value: TEXT.accepts(value) and bool(value.strip()))
ANY_NUMBER, PART, WEIGHT, ABOVE_0 = number(), number(0, 1), number(0, 1e6), number(0, above=True)
FROM_0 = number(0)
COUNT, COUNT_OR_0 = whole(1, 10**9), whole(0, 10**9)
WIDTH, PIXELS = whole(1, 65_536), whole(1, 100_000)
MODE = one_of("auto", "max", "min")
#: Of ``DATASETS.REGISTER``.
ENTRY = Rule("yaml files and mappings", lambda value: isinstance(value, str | dict))

#: A rule for each key of Detectron2's that is looked at.
OF_DETECTRON2: dict[str, Rule] = {
    "MODEL.META_ARCHITECTURE": NAME,
    "MODEL.DEVICE": NAME,
    "MODEL.WEIGHTS": TEXT,
    "MODEL.MASK_ON": FLAG,
    "MODEL.PIXEL_MEAN": list_of(number(-1e6, 1e6), 3, 3),
    "MODEL.PIXEL_STD": list_of(number(0, 1e6, above=True), 3, 3),
    "MODEL.BACKBONE.NAME": NAME,
    "MODEL.BACKBONE.FREEZE_AT": whole(0, 5),
    "MODEL.RESNETS.DEPTH": one_of(18, 34, 50, 101, 152),
    "MODEL.RESNETS.OUT_FEATURES": distinct(one_of("stem", "res2", "res3", "res4", "res5"), 1),
    "MODEL.RESNETS.NORM": one_of(
        *("", "BN", "SyncBN", "FrozenBN", "GN"),
        *("nnSyncBN", "naiveSyncBN", "naiveSyncBN_N", "LN"),  # of an installed Detectron2 only
    ),
    "MODEL.RESNETS.STRIDE_IN_1X1": FLAG,
    "MODEL.RESNETS.RES5_DILATION": one_of(1, 2),
    "MODEL.RESNETS.NUM_GROUPS": WIDTH,
    "MODEL.RESNETS.WIDTH_PER_GROUP": WIDTH,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": WIDTH,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": WIDTH,
    "MODEL.RESNETS.DEFORM_MODULATED": FLAG,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": list_of(FLAG, 4, 4),
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": WIDTH,
    "INPUT.MIN_SIZE_TRAIN": list_of(whole(0, 100_000), 1),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": one_of("choice", "range"),
    "INPUT.MAX_SIZE_TRAIN": PIXELS,
    "INPUT.MIN_SIZE_TEST": whole(0, 100_000),
    "INPUT.MAX_SIZE_TEST": PIXELS,
    "INPUT.RANDOM_FLIP": one_of("horizontal", "vertical", "none"),
    "INPUT.FORMAT": one_of("RGB", "BGR"),
    "INPUT.MASK_FORMAT": one_of("polygon", "bitmask"),
    "INPUT.CROP.ENABLED": FLAG,
    "INPUT.CROP.TYPE": one_of("relative", "relative_range", "absolute", "absolute_range"),
    "INPUT.CROP.SIZE": list_of(number(0, 100_000, above=True), 2, 2),
    "DATASETS.TRAIN": list_of(NAME),
    "DATASETS.TEST": list_of(NAME),
    "DATALOADER.NUM_WORKERS": whole(0, 512),
    "DATALOADER.ASPECT_RATIO_GROUPING": FLAG,
    "DATALOADER.SAMPLER_TRAIN": one_of(
        *("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"),
        *("WeightedTrainingSampler", "WeightedCategoryTrainingSampler"),
    ),
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": FLAG,
    "SOLVER.IMS_PER_BATCH": whole(1, 65_536),
    "SOLVER.MAX_ITER": COUNT,
    "SOLVER.CHECKPOINT_PERIOD": COUNT,
    "SOLVER.REFERENCE_WORLD_SIZE": COUNT_OR_0,
    "SOLVER.BASE_LR": ABOVE_0,
    "SOLVER.BASE_LR_END": FROM_0,
    "SOLVER.LR_SCHEDULER_NAME": one_of("WarmupMultiStepLR", "WarmupCosineLR"),
    "SOLVER.GAMMA": number(0, 10),
    "SOLVER.STEPS": rising(COUNT),
    "SOLVER.NUM_DECAYS": COUNT_OR_0,
    "SOLVER.WARMUP_METHOD": one_of("linear", "constant"),
    "SOLVER.WARMUP_ITERS": COUNT_OR_0,
    "SOLVER.WARMUP_FACTOR": WEIGHT,
    "SOLVER.RESCALE_INTERVAL": FLAG,
    "SOLVER.MOMENTUM": PART,
    "SOLVER.NESTEROV": FLAG,
    "SOLVER.BIAS_LR_FACTOR": or_none(FROM_0),
    "SOLVER.WEIGHT_DECAY": FROM_0,
    "SOLVER.WEIGHT_DECAY_NORM": or_none(FROM_0),
    "SOLVER.WEIGHT_DECAY_BIAS": or_none(FROM_0),
    "SOLVER.AMP.ENABLED": FLAG,
    "SOLVER.CLIP_GRADIENTS.ENABLED": FLAG,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": one_of("full_model", "norm", "value"),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": ABOVE_0,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": Rule(
        "numbers above 0, and infinity", lambda value: ABOVE_0.accepts(value) or value == math.inf
    ),
    "TEST.EVAL_PERIOD": COUNT_OR_0,
    "TEST.EXPECTED_RESULTS": list_of(Rule("[task, metric, value, tolerance]", _is_expected_result)),
    "TEST.DETECTIONS_PER_IMAGE": COUNT,
    "TEST.PRECISE_BN.ENABLED": FLAG,
    "TEST.PRECISE_BN.NUM_ITER": COUNT,
    "TEST.AUG.ENABLED": FLAG,
    "TEST.AUG.FLIP": FLAG,
    "TEST.AUG.MIN_SIZES": list_of(PIXELS),
    "TEST.AUG.MAX_SIZE": PIXELS,
    "OUTPUT_DIR": NAME,
    "SEED": whole(-(2**31), 4 * 10**9),
    "CUDNN_BENCHMARK": FLAG,
    "FLOAT32_PRECISION": one_of("", "highest", "high", "medium"),
    "VIS_PERIOD": COUNT_OR_0,
}
