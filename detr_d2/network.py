"""From a config to the model's parts: Detectron2's backbone, and what the paper puts behind it.

And in which numbers they compute: ``MODEL.DETR.TRAINING_DTYPE`` and ``INFERENCE_DTYPE``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from detr_d2.modeling import (
    AttentionMaps,
    Denoising,
    DensePredictions,
    Detr,
    HungarianMatcher,
    MaskHead,
    PostProcess,
    SetCriterion,
    Transformer,
)

from detectron2.config import CfgNode
from detectron2.modeling import build_backbone

logger = logging.getLogger(__name__)

_REASONS = {"bfloat16": "multiplies in it", "float32": "doesn't multiply bfloat16"}
#: Arguments of ``PostProcess`` that are keys of ``MODEL.DETR``.
_THRESHOLDS = (
    *("score_threshold", "class_score_thresholds", "overlap_threshold", "min_segment_area"),
    "instance_score_threshold",
)


def build_network(cfg: CfgNode, num_classes: int, accelerate: bool = True) -> dict[str, nn.Module]:
    """The modules that have parameters.

    Args:
        cfg: ``MODEL`` is looked at.
        num_classes: K, without no-object.
        accelerate: compute the same faster, see ``detr_d2.acceleration``; nothing needs that folder.

    Returns:
        "detr"; with ``MODEL.DETR.MASK_ON`` "bbox_attention" and "mask_head"; with ``MODEL.DETR.DENOISING_GROUPS``,
        where the detector is trained, "denoising"; likewise with ``DENSE_LOSSES`` "dense".
    """
    options = cfg.MODEL.DETR
    backbone = build_backbone(_without_unread_stages(cfg))
    if cfg.MODEL.RESNETS.RES5_DILATION == 2:
        use_published_dilation_(backbone)
    channels = {name: shape.channels or 0 for name, shape in backbone.output_shape().items()}
    transformer = _build_transformer(options)
    network = nn.ModuleDict()
    if options.MASK_ON:
        width, heads = options.HIDDEN_DIM, options.NHEADS
        fpn_dims = [channels[name] for name in ("res4", "res3", "res2")]
        network["bbox_attention"] = AttentionMaps(width, width, heads)
        network["mask_head"] = MaskHead(width + heads, fpn_dims, width, options.ATTENTION_GAIN)
    aux_loss = options.DEEP_SUPERVISION and not options.FREEZE_DETECTOR
    feature = options.MEMORY_FEATURE
    sizes = (num_classes, options.NUM_QUERIES)
    network["detr"] = Detr(backbone, channels[feature], transformer, *sizes, aux_loss, feature)
    if options.DENOISING_GROUPS and not options.FREEZE_DETECTOR:
        noise = (options.DENOISING_BOX_NOISE, options.DENOISING_LABEL_NOISE)
        network["denoising"] = Denoising(options.HIDDEN_DIM, num_classes, options.DENOISING_GROUPS, *noise)
    if options.DENSE_LOSSES and not options.FREEZE_DETECTOR:
        network["dense"] = DensePredictions(options.HIDDEN_DIM, num_classes)
    if accelerate and importlib.util.find_spec("detr_d2.acceleration") is not None:
        importlib.import_module("detr_d2.acceleration").accelerate_(network)
    if options.COMPILE_BACKBONE:
        backbone.compile()
    return dict(network)


def _without_unread_stages(cfg: CfgNode) -> CfgNode:
    """The same config; where the transformer reads res4 there is no res5."""
    if cfg.MODEL.DETR.MEMORY_FEATURE == "res5":
        return cfg
    shorter = cfg.clone()
    shorter.defrost()
    shorter.MODEL.RESNETS.OUT_FEATURES = [name for name in cfg.MODEL.RESNETS.OUT_FEATURES if name != "res5"]
    return shorter


def _build_transformer(options: CfgNode) -> Transformer:
    return Transformer(
        d_model=options.HIDDEN_DIM,
        nhead=options.NHEADS,
        num_encoder_layers=options.ENC_LAYERS,
        num_decoder_layers=options.DEC_LAYERS,
        dim_feedforward=options.DIM_FEEDFORWARD,
        dropout=options.DROPOUT,
        normalize_before=options.PRE_NORM,
    )


def build_criterion(cfg: CfgNode, num_classes: int) -> SetCriterion:
    """Matching and losses as ``MODEL.DETR`` has them, no loss weighted against another."""
    options = cfg.MODEL.DETR
    return SetCriterion(
        num_classes,
        HungarianMatcher(options.COST_CLASS, options.COST_L1, options.COST_GIOU),
        no_object_weight=options.NO_OBJECT_WEIGHT,
        focal_alpha=options.FOCAL_ALPHA,
        focal_gamma=options.FOCAL_GAMMA,
        mask_id=options.MASK_ID_WEIGHT > 0,
        mask_points=options.MASK_POINTS,
    )


def loss_weights(cfg: CfgNode) -> dict[str, float]:
    """What each kind of loss counts in the sum that is minimised."""
    keys = {"ce": "CLASS", "bbox": "L1", "giou": "GIOU", "mask": "MASK", "dice": "DICE", "maskid": "MASK_ID"}
    return {f"loss_{kind}": cfg.MODEL.DETR[f"{key}_WEIGHT"] for kind, key in keys.items()}


def build_postprocess(cfg: CfgNode, is_thing: Sequence[bool]) -> PostProcess:
    """Thresholds as ``MODEL.DETR`` has them, for classes of which some are things."""
    return PostProcess(is_thing, **{name: cfg.MODEL.DETR[name.upper()] for name in _THRESHOLDS})


def use_published_dilation_(backbone: nn.Module) -> None:
    """Give the first block of a dilated ``res5`` no dilation, as the published networks have it (DC5).

    torchvision, with whose ResNet they were trained, dilates the convolutions after the stride that dilation replaces,
    Detectron2 all of res5; names and shapes are the same, the numbers aren't.

    Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", section 4, "DC5".

    Args:
        backbone: a ResNet of bottleneck blocks with Detectron2's names, changed in place; others stay as they are.
    """
    stage = getattr(backbone, "res5", None)
    convolution = None if stage is None else getattr(stage[0], "conv2", None)
    if isinstance(convolution, nn.Conv2d) and convolution.kernel_size == (3, 3):
        convolution.dilation = convolution.padding = (1, 1)


def check_dtypes(training: str, inference: str) -> None:
    """Raise ``ValueError`` where a key has another value; what is trained doesn't depend on the machine."""
    for key, value, auto in (("TRAINING_DTYPE", training, ()), ("INFERENCE_DTYPE", inference, ("auto",))):
        allowed = ("float32", "bfloat16", *auto)
        if value not in allowed:
            raise ValueError(f"MODEL.DETR.{key} is {value!r}; set it to {' or '.join(allowed)}.")


def autocast(dtype: str, device_type: str) -> AbstractContextManager[Any]:
    """A context in which the network computes in numbers of a key's value; "auto" is as :func:`auto_dtype` says."""
    if dtype == "auto":
        dtype = auto_dtype(device_type)
    return nullcontext() if dtype == "float32" else torch.autocast(device_type, dtype=torch.bfloat16)


@functools.cache
def auto_dtype(device_type: str) -> str:
    """ "bfloat16" where a device multiplies in it, not only stores it, else "float32"; logged once for each.

    Args:
        device_type: "cpu" or "cuda".
    """
    dtype = "bfloat16" if _multiplies_bfloat16(device_type) else "float32"
    logger.info("MODEL.DETR.INFERENCE_DTYPE auto: %s, as this device (%s) %s.", dtype, device_type, _REASONS[dtype])
    return dtype


def _multiplies_bfloat16(device_type: str) -> bool:
    if device_type == "cuda":
        # Without "emulation", which any GPU has, and which is slower than float32.
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        found = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return any(function is not None and function() for function in found)
    return False
