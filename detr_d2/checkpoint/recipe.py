"""The config keys that build a model: kept in checkpoints, read off the shapes of others' weights, and compared.

Source of the conventions of images: torchvision's ImageNet models (RGB), and Caffe2's ResNets as Detectron2's model zoo
uses them (BGR).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from detr_d2.config import value_of
from detr_d2.errors import WeightsError

from detectron2.config import CfgNode

from .names import CAFFE2, DETECTRON2, HUGGING_FACE, OURS, PUBLISHED, TORCHVISION

if TYPE_CHECKING:
    from .reading import WeightsFile

logger = logging.getLogger(__name__)

Recipe = dict[str, Any]
"""Config keys, such as ``MODEL.DETR.HIDDEN_DIM``, and their values as plain data."""

_RESNET_KEYS = (
    *("DEPTH", "OUT_FEATURES", "NORM", "NUM_GROUPS", "WIDTH_PER_GROUP", "STRIDE_IN_1X1", "RES5_DILATION"),
    *("RES2_OUT_CHANNELS", "STEM_OUT_CHANNELS"),
)
_KEYS = (
    *("MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.NAME", "MODEL.BACKBONE.FREEZE_AT", "MODEL.MASK_ON"),
    *("MODEL.TIMM.NAME", "MODEL.TIMM.FREEZE_BN", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"),
    *("INPUT.FORMAT", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"),
)
_DEPTHS = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}

DETECTOR_KEYS = (
    *("MODEL.RESNETS.DEPTH", "MODEL.RESNETS.STEM_OUT_CHANNELS", "MODEL.RESNETS.RES2_OUT_CHANNELS"),
    *("MODEL.RESNETS.NUM_GROUPS", "MODEL.RESNETS.WIDTH_PER_GROUP", "MODEL.RESNETS.STRIDE_IN_1X1"),
    *("MODEL.DETR.HIDDEN_DIM", "MODEL.DETR.NHEADS", "MODEL.DETR.DIM_FEEDFORWARD", "MODEL.DETR.PRE_NORM"),
)
"""Keys that must be those of the weights, or nothing fits."""

WHOLE_MODEL_KEYS = ("MODEL.RESNETS.RES5_DILATION", "MODEL.DETR.ENC_LAYERS", "MODEL.DETR.DEC_LAYERS")
"""Keys that must be those of the weights as well where the model isn't trained further."""


FORMAT, MEAN, STD = "INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"


def _convention(channels: str, mean: Iterable[float], std: Iterable[float]) -> dict[str, Any]:
    return {FORMAT: channels, MEAN: list(mean), STD: list(std)}


#: What the config keys of images are for networks of two origins; means and deviations are of values in 0..255.
IMAGENET_RGB = _convention("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CAFFE2_BGR = _convention("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))


def convention_of(
    origin: str, author: str, recorded: Mapping[str, Any], preprocessor: Mapping[str, Any]
) -> dict[str, Any]:
    """The config keys of the images that weights of an origin expect: format, mean and std; none where nobody knows.

    Args:
        origin: see ``convert_names``.
        author: who Detectron2's file says made it.
        recorded: config keys that our own checkpoint holds.
        preprocessor: Hugging Face's preprocessor_config.json.
    """
    if origin == HUGGING_FACE and preprocessor.get("image_mean") and preprocessor.get("image_std"):
        scaled = [[round(255 * value, 4) for value in preprocessor[key]] for key in ("image_mean", "image_std")]
        return _convention("RGB", *scaled)
    if origin in (PUBLISHED, HUGGING_FACE, TORCHVISION) or (origin == DETECTRON2 and author == "torchvision"):
        return IMAGENET_RGB
    if origin == CAFFE2 or (origin == DETECTRON2 and author):
        return CAFFE2_BGR
    if origin == OURS and all(key in recorded for key in (FORMAT, MEAN, STD)):
        return _convention(str(recorded[FORMAT]), recorded[MEAN], recorded[STD])
    return {}


def model_recipe(cfg: CfgNode) -> Recipe:
    """What of a config builds the model and its images, thresholds included."""
    return {key: _plain(value_of(cfg, key)) for key in _recipe_keys(cfg)}


def apply_recipe_(cfg: CfgNode, recipe: Mapping[str, Any]) -> None:
    """Put a recipe's values into a config; keys that build no model in this version are left out and logged."""
    known = set(_recipe_keys(cfg))
    for key, value in recipe.items():
        if key in known:
            cfg.merge_from_list([key, value])
        else:
            logger.warning("The weights' config has %s, which this version doesn't know; it is left out.", key)


def _recipe_keys(cfg: CfgNode) -> list[str]:
    """The keys that a recipe may have."""
    resnet = [f"MODEL.RESNETS.{key}" for key in _RESNET_KEYS]
    return [*_KEYS, *resnet, *(f"MODEL.DETR.{key}" for key in cfg.MODEL.DETR)]


def deduced_recipe(file: WeightsFile) -> Recipe:
    """The config keys that a file's record, its neighbours and the shapes of its weights say.

    The record comes first, but shapes are facts. What no shape says (heads of boxes only, dilation) is absent.
    """
    record = dict(file.record.get("config") or {})
    return record | file.entries | _images(file) | _backbone(file.weights) | _transformer(file.weights)


def differing_keys(theirs: Mapping[str, Any], ours: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    """Those of ``keys`` that both recipes have, with other values."""
    return [key for key in keys if key in theirs and key in ours and theirs[key] != ours[key]]


def refuse_other_images(file: WeightsFile, config: Mapping[str, Any]) -> None:
    """Refuse a config whose images look other than those that the weights were trained with.

    Args:
        file: of weights.
        config: keys and values that the model was built with; keys that aren't there aren't looked at.

    Raises:
        WeightsError: naming each key to change, what it is and what it must be.
    """
    wrong = {key: value for key, value in file.convention.items() if key in config and not _same(config[key], value)}
    if wrong:
        found = ", ".join(f"{key} is {_shown(config[key])}" for key in wrong)
        fix = " ".join(f"{key} {_shown(value, quoted=True)}" for key, value in wrong.items())
        raise WeightsError(
            f"{file.path} ({file.origin}) was trained on other images than the config makes: {found}. Set {fix}."
        )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    return len(a) == len(b) and all(abs(x - y) < 0.5 for x, y in zip(a, b))


def _shown(value: str | Sequence[float], quoted: bool = False) -> str:
    if isinstance(value, str):
        return value
    text = "[" + ", ".join(f"{number:g}" for number in value) + "]"
    return f'"{text}"' if quoted else text


def _images(file: WeightsFile) -> Recipe:
    """What the origin says, where there is no record: the images, and where a ResNet's blocks have their stride."""
    if not file.convention or file.origin == OURS:
        return {}
    return file.convention | {"MODEL.RESNETS.STRIDE_IN_1X1": file.convention == CAFFE2_BGR}


def _backbone(weights: Mapping[str, Tensor]) -> Recipe:
    prefix = "detr.backbone."
    first, stem = weights.get(f"{prefix}res2.0.conv1.weight"), weights.get(f"{prefix}stem.conv1.weight")
    if first is None or stem is None:
        return {}
    blocks = tuple(_count(weights, rf"detr\.backbone\.res{stage}\.(\d+)\.") for stage in (2, 3, 4, 5))
    last = weights.get(f"{prefix}res2.0.conv3.weight")
    recipe: Recipe = {"MODEL.RESNETS.STEM_OUT_CHANNELS": len(stem)}
    if blocks in _DEPTHS:
        basic = last is None and blocks == (3, 4, 6, 3)
        recipe["MODEL.RESNETS.DEPTH"] = 34 if basic else _DEPTHS[blocks]
    middle = weights.get(f"{prefix}res2.0.conv2.weight")
    if last is not None and middle is not None and middle.dim() == 4:
        groups = len(middle) // middle.shape[1]
        recipe |= {"MODEL.RESNETS.NUM_GROUPS": groups, "MODEL.RESNETS.WIDTH_PER_GROUP": len(middle) // max(1, groups)}
    recipe["MODEL.RESNETS.RES2_OUT_CHANNELS"] = len(first if last is None else last)
    return recipe


def _transformer(weights: Mapping[str, Tensor]) -> Recipe:
    queries = weights.get("detr.query_embed.weight")
    if queries is None or queries.dim() != 2:
        return {}
    hidden_dim = queries.shape[1]
    recipe: Recipe = {
        "MODEL.DETR.HIDDEN_DIM": hidden_dim,
        "MODEL.DETR.NUM_QUERIES": len(queries),
        "MODEL.DETR.ENC_LAYERS": _count(weights, r"detr\.transformer\.encoder\.layers\.(\d+)\."),
        "MODEL.DETR.DEC_LAYERS": _count(weights, r"detr\.transformer\.decoder\.layers\.(\d+)\."),
        "MODEL.DETR.PRE_NORM": "detr.transformer.encoder.norm.weight" in weights,
        "MODEL.DETR.MASK_ON": "mask_head.lay1.weight" in weights,
    }
    forward = weights.get("detr.transformer.decoder.layers.0.linear1.weight")
    if forward is not None:
        recipe["MODEL.DETR.DIM_FEEDFORWARD"] = len(forward)
    first = weights.get("mask_head.lay1.weight")
    if first is not None and len(first) > hidden_dim:
        recipe["MODEL.DETR.NHEADS"] = len(first) - hidden_dim
    return recipe


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    found = {match[1] for name in weights if (match := re.match(pattern, name))}
    return len(found)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
