"""An independently written subset of Detectron2's API; not Detectron2. Registries, and building from a config."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
from fvcore.common.registry import Registry
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = "Whole models: callables that take a config and return an ``nn.Module``."
BACKBONE_REGISTRY = Registry("BACKBONE")
BACKBONE_REGISTRY.__doc__ = "Callables that take a config and the input's ``ShapeSpec`` and return a ``Backbone``."


class Backbone(nn.Module, metaclass=ABCMeta):
    """A network from images to named feature maps.

    A subclass defines ``forward``, and either overrides ``output_shape`` or sets ``_out_features`` (list of names),
    ``_out_feature_channels`` and ``_out_feature_strides`` (dicts by name).
    """

    _out_features: list[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    @abstractmethod
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, C, H, W) to feature maps (B, C', H/stride, W/stride) by name."""

    @property
    def size_divisibility(self) -> int:
        """What the input's height and width must be multiples of; 0 when any size will do."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Further demands on padding: ``size_divisibility``, ``square_size``; empty when there are none."""
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every output."""
        return {
            name: ShapeSpec(channels=self._out_feature_channels[name], stride=self._out_feature_strides[name])
            for name in self._out_features
        }


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """The backbone that ``cfg.MODEL.BACKBONE.NAME`` names; ``input_shape`` defaults to as many channels as pixel means.

    Raises:
        TypeError: what is registered under the name didn't return a ``Backbone``.
    """
    if input_shape is None:
        input_shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg, input_shape)
    if not isinstance(backbone, Backbone):
        raise TypeError(
            f"MODEL.BACKBONE.NAME={cfg.MODEL.BACKBONE.NAME} built a {type(backbone).__name__}; "
            "derive it from detectron2.modeling.Backbone."
        )
    return backbone


def build_model(cfg: CfgNode) -> nn.Module:
    """The model that ``cfg.MODEL.META_ARCHITECTURE`` names, without loaded weights, on ``cfg.MODEL.DEVICE``.

    Raises:
        ConfigError: the device is a GPU and there is none.
    """
    device = torch.device(cfg.MODEL.DEVICE)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        from detr_d2.errors import ConfigError

        raise ConfigError(
            f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}', but PyTorch finds {torch.cuda.device_count()} GPU(s) here. "
            "Set MODEL.DEVICE to one that is there, or add 'MODEL.DEVICE cpu' to the command line."
        )
    model: nn.Module = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(device)
