"""An independently written subset of Detectron2's API; not Detectron2. Registries, and building from a config."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
from fvcore.common.registry import Registry
from torch import Tensor, nn

from detr_d2.errors import ConfigError

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances

META_ARCH_REGISTRY = Registry("META_ARCH")  # callables from a config to a whole model
BACKBONE_REGISTRY = Registry("BACKBONE")  # callables from a config and the input's ShapeSpec to a Backbone


class Backbone(nn.Module, metaclass=ABCMeta):
    """From images to named feature maps; a subclass sets what it puts out, by name, or overrides ``output_shape``."""

    _out_features: list[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    @abstractmethod
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, C, H, W) to feature maps (B, C', H/stride, W/stride)."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        channels, strides = self._out_feature_channels, self._out_feature_strides
        return {name: ShapeSpec(channels=channels[name], stride=strides[name]) for name in self._out_features}


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """The backbone named ``cfg.MODEL.BACKBONE.NAME``; the input has as many channels as there are pixel means."""
    input_shape = input_shape or ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    return BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg, input_shape)


def build_model(cfg: CfgNode) -> nn.Module:
    """The model named ``cfg.MODEL.META_ARCHITECTURE``, without weights, on ``cfg.MODEL.DEVICE``.

    Raises:
        ConfigError: the device is a GPU and there is none.
    """
    device, gpus = torch.device(cfg.MODEL.DEVICE), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ConfigError(
            f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}', but PyTorch finds {gpus} GPU(s) here. "
            "Choose one that is there, or add 'MODEL.DEVICE cpu' to the command line."
        )
    model: nn.Module = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(device)


def detector_postprocess(results: Instances, output_height: int, output_width: int) -> Instances:
    """The instances whose box has an area at the output's size, ``pred_boxes`` scaled (in place) and clipped.

    There must be no ``pred_masks``: Detectron2 resizes only those of regions, so add those of whole images afterwards.
    """
    if not results.has("pred_boxes") or results.has("pred_masks"):
        raise ValueError(f"results has the fields {sorted(results.get_fields())}; give pred_boxes, and no pred_masks.")
    height, width = results.image_size
    resized = Instances((output_height, output_width), **results.get_fields())
    resized.pred_boxes.scale(output_width / width, output_height / height)
    resized.pred_boxes.clip(resized.image_size)
    return resized[resized.pred_boxes.nonempty()]
