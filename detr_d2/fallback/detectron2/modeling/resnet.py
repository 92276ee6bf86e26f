"""An independently written subset of Detectron2's API; not Detectron2. ResNet with Detectron2's parameter names.

Source: He et al. 2015, "Deep Residual Learning for Image Recognition", table 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from .build import BACKBONE_REGISTRY, Backbone
from .norm import ConvNorm, FrozenBatchNorm2d

BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class _Block(nn.Module):
    """What ResNet asks of its parts: known channels and stride, and a way to freeze."""

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.stride = stride

    def freeze(self) -> None:
        """Stop training here: no gradients, and batch norms become constants."""
        self.requires_grad_(False)
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)


class BasicStem(_Block):
    """7x7 convolution and max pooling: stride 4."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__(out_channels, stride=4)
        self.conv1 = ConvNorm(in_channels, out_channels, 7, norm, stride=2)
        c2_msra_fill(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class ResidualBlock(_Block):
    """``conv1``, ``conv2``, ... with ReLU between, plus a shortcut, which projects where the channels change.

    Args:
        shapes: (in_channels, out_channels, kernel_size, stride) of each convolution.
        inner: ``dilation`` and ``groups`` of ``conv2``.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int, int]], norm: str, **inner: int) -> None:
        in_channels, out_channels = shapes[0][0], shapes[-1][1]
        super().__init__(out_channels, stride=math.prod(shape[3] for shape in shapes))
        has_projection = in_channels != out_channels
        self.shortcut = ConvNorm(in_channels, out_channels, 1, norm, stride=self.stride) if has_projection else None
        self.num_convolutions = len(shapes)
        for index, (inputs, outputs, size, stride) in enumerate(shapes, 1):
            options = inner if index == 2 else {}
            self.add_module(f"conv{index}", ConvNorm(inputs, outputs, size, norm, stride=stride, **options))
        for layer in (*self._convolutions(), *([self.shortcut] if self.shortcut else [])):
            c2_msra_fill(layer)

    def _convolutions(self) -> list[nn.Module]:
        return [getattr(self, f"conv{index}") for index in range(1, self.num_convolutions + 1)]

    def forward(self, x: Tensor) -> Tensor:
        *others, last = self._convolutions()
        residual = x
        for layer in others:
            residual = F.relu_(layer(residual))
        residual = last(residual)
        residual += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(residual)


class ResNet(Backbone):
    """A stem and up to four stages ``res2`` to ``res5``; stages after the last wanted output aren't built.

    Args:
        stages: the blocks of each stage, from ``res2`` on.
        out_features: which of "stem", "res2" ... "res5" to return.
        freeze_at: 1 freezes the stem, 2 also ``res2``, and so on; 0 freezes nothing.
    """

    def __init__(
        self,
        stem: BasicStem,
        stages: Sequence[Sequence[ResidualBlock]],
        out_features: Sequence[str],
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        known = ["stem", *(f"res{index}" for index in range(2, 2 + len(stages)))]
        if not out_features or not set(out_features) <= set(known):
            raise ValueError(f"MODEL.RESNETS.OUT_FEATURES={list(out_features)}; choose one or more of {known}.")
        self.stem = stem
        self._out_features = list(out_features)
        self._out_feature_strides = {"stem": stem.stride}
        self._out_feature_channels = {"stem": stem.out_channels}
        self.stage_names = known[1 : 1 + max(known.index(name) for name in out_features)]
        stride = stem.stride
        for name, blocks in zip(self.stage_names, stages, strict=False):
            self.add_module(name, nn.Sequential(*blocks))
            for block in blocks:
                stride *= block.stride
            self._out_feature_strides[name] = stride
            self._out_feature_channels[name] = blocks[-1].out_channels
        self.freeze(freeze_at)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, C, H, W) of any size to the wanted feature maps by name."""
        outputs = {}
        for name in ("stem", *self.stage_names):
            x = getattr(self, name)(x)
            if name in self._out_features:
                outputs[name] = x
        return outputs

    def freeze(self, freeze_at: int = 0) -> ResNet:
        """Freeze the first ``freeze_at`` of stem, res2, ... and return self."""
        if freeze_at >= 1:
            self.stem.freeze()
        for name in self.stage_names[: max(freeze_at - 1, 0)]:
            for block in getattr(self, name):
                block.freeze()
        return self


def _check(settings: CfgNode) -> None:
    """Refuse what ResNets of this depth can't have."""
    if settings.DEPTH not in BLOCKS_PER_STAGE:
        raise ValueError(f"MODEL.RESNETS.DEPTH={settings.DEPTH}; allowed are {sorted(BLOCKS_PER_STAGE)}.")
    if any(settings.get("DEFORM_ON_PER_STAGE", ())):
        raise ValueError("MODEL.RESNETS.DEFORM_ON_PER_STAGE needs an installed Detectron2; set it to four times False.")
    if settings.RES5_DILATION not in (1, 2):
        raise ValueError(f"MODEL.RESNETS.RES5_DILATION={settings.RES5_DILATION}; allowed are 1 and 2.")
    demands = {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1} if settings.DEPTH < 50 else {}
    for key, value in demands.items():
        if settings[key] != value:
            raise ValueError(
                f"MODEL.RESNETS.{key} is {settings[key]}; set it to {value} for MODEL.RESNETS.DEPTH {settings.DEPTH}."
            )


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """The ResNet that ``cfg.MODEL.RESNETS`` describes, frozen up to ``cfg.MODEL.BACKBONE.FREEZE_AT``."""
    settings = cfg.MODEL.RESNETS
    _check(settings)
    norm, groups = settings.NORM, settings.NUM_GROUPS
    stem = BasicStem(input_shape.channels or 3, settings.STEM_OUT_CHANNELS, norm)
    inputs = settings.STEM_OUT_CHANNELS
    stages = []
    for index, num_blocks in enumerate(BLOCKS_PER_STAGE[settings.DEPTH]):
        dilation = settings.RES5_DILATION if index == 3 else 1
        outputs, width = settings.RES2_OUT_CHANNELS * 2**index, groups * settings.WIDTH_PER_GROUP * 2**index
        blocks = []
        for position in range(num_blocks):
            stride = 2 if position == 0 and index > 0 and dilation == 1 else 1
            if settings.DEPTH < 50:
                blocks.append(ResidualBlock([(inputs, outputs, 3, stride), (outputs, outputs, 3, 1)], norm))
            else:
                first, second = (stride, 1) if settings.STRIDE_IN_1X1 else (1, stride)
                shapes = [(inputs, width, 1, first), (width, width, 3, second), (width, outputs, 1, 1)]
                blocks.append(ResidualBlock(shapes, norm, dilation=dilation, groups=groups))
            inputs = outputs
        stages.append(blocks)
    return ResNet(stem, stages, settings.OUT_FEATURES, cfg.MODEL.BACKBONE.FREEZE_AT)
