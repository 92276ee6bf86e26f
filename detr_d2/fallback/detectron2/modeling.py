"""An independently written subset of Detectron2's API; not Detectron2. Models, backbones, and output sizes.

Source: ResNet is He et al. 2015, "Deep Residual Learning for Image Recognition", table 1.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.common.registry import Registry
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn

from detr_d2.errors import ConfigError

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances

META_ARCH_REGISTRY = Registry("META_ARCH")  # callables from a config to a whole model
BACKBONE_REGISTRY = Registry("BACKBONE")  # callables from a config and the input's ShapeSpec to a Backbone
BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


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
    """The model named ``cfg.MODEL.META_ARCHITECTURE``, without weights, on ``cfg.MODEL.DEVICE``."""
    model: nn.Module = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(cfg.MODEL.DEVICE)


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


class FrozenBatchNorm2d(nn.Module):
    """Batch norm of buffers only, so that nothing trains its statistics, scale and shift; at first the identity."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features) - eps)
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: Tensor) -> Tensor:
        if not x.requires_grad:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        # F.batch_norm would keep and compute what gradients of the constants need; a multiply-add doesn't.
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift.to(x.dtype)[:, None, None], x, scale.to(x.dtype)[:, None, None])

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """``module`` with every batch norm in it (in place), or itself (a new module), turned into a frozen one."""
        if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            frozen = cls(module.num_features, module.eps)
            for name, value in module.state_dict().items():
                setattr(frozen, name, value.clone())
            return frozen
        for name, child in module.named_children():
            module.add_module(name, cls.convert_frozen_batchnorm(child))
        return module


_NORMS: dict[str, Callable[[int], nn.Module | None]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,  # plain batch norm where there is one process
    "FrozenBN": FrozenBatchNorm2d,
    "GN": lambda channels: nn.GroupNorm(32, channels),
    "": lambda channels: None,
}


class ConvNorm(nn.Conv2d):
    """A convolution without bias, padded to keep the size at stride 1, then the ``norm`` of that name, if any."""

    def __init__(self, inputs: int, outputs: int, size: int, norm: str, stride: int = 1, **options: Any) -> None:
        padding = options.get("dilation", 1) * (size // 2)
        super().__init__(inputs, outputs, size, stride, padding, bias=False, **options)
        if norm not in _NORMS:
            raise ConfigError(f"MODEL.RESNETS.NORM='{norm}' is unknown; allowed are {', '.join(_NORMS)} and ''.")
        self.norm = _NORMS[norm](outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.norm is None else self.norm(x)


class BasicStem(nn.Module):
    """7x7 convolution and max pooling: stride 4."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels, 7, norm, stride=2)
        c2_msra_fill(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class ResidualBlock(nn.Module):
    """``conv1``, ``conv2``, ... with ReLU between, plus a shortcut, which projects where the channels change.

    ``shapes`` has (in_channels, out_channels, kernel_size, stride) of each convolution; ``inner`` the ``dilation`` and
    ``groups`` of ``conv2``.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int, int]], norm: str, **inner: int) -> None:
        super().__init__()
        inputs, outputs, stride = shapes[0][0], shapes[-1][1], max(shape[3] for shape in shapes)
        self.shortcut = ConvNorm(inputs, outputs, 1, norm, stride) if inputs != outputs else None
        self.names = [f"conv{index}" for index in range(1, len(shapes) + 1)]
        for name, shape in zip(self.names, shapes):
            self.add_module(name, ConvNorm(*shape[:3], norm, shape[3], **(inner if name == "conv2" else {})))
        for layer in filter(None, [*(getattr(self, name) for name in self.names), self.shortcut]):
            c2_msra_fill(layer)

    def forward(self, x: Tensor) -> Tensor:
        residual = x
        for name in self.names:
            residual = getattr(self, name)(residual if name == "conv1" else F.relu_(residual))
        residual += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(residual)


class ResNet(Backbone):
    """``stem``, and ``res2`` up to the last stage asked for: ``cfg.MODEL.RESNETS``.

    The first ``cfg.MODEL.BACKBONE.FREEZE_AT`` parts are frozen: no gradients, and constant batch norms.
    """

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__()
        settings = cfg.MODEL.RESNETS
        _check(settings)
        self._out_features = list(settings.OUT_FEATURES)
        self._out_feature_strides = {"stem": 4}
        self._out_feature_channels = {"stem": settings.STEM_OUT_CHANNELS}
        self.names = ["stem", "res2", "res3", "res4", "res5"]
        self.names = self.names[: 1 + max(map(self.names.index, self._out_features))]
        self.stem = BasicStem(input_shape.channels or 3, settings.STEM_OUT_CHANNELS, settings.NORM)
        inputs = settings.STEM_OUT_CHANNELS
        # All stages are drawn, as in Detectron2, so that a seed gives the same weights whatever is asked for.
        for index, count in enumerate(BLOCKS_PER_STAGE[settings.DEPTH]):
            dilation, outputs = settings.RES5_DILATION if index == 3 else 1, settings.RES2_OUT_CHANNELS * 2**index
            stride = 1 if index == 0 or dilation == 2 else 2
            blocks = [_block(settings, index, inputs, outputs, stride, dilation)]
            blocks += [_block(settings, index, outputs, outputs, 1, dilation) for _ in range(count - 1)]
            inputs, name = outputs, f"res{index + 2}"
            if name in self.names:
                self.add_module(name, nn.Sequential(*blocks))
                self._out_feature_strides[name] = 4 * 2**index // dilation
                self._out_feature_channels[name] = outputs
        for name in self.names[: cfg.MODEL.BACKBONE.FREEZE_AT]:
            FrozenBatchNorm2d.convert_frozen_batchnorm(getattr(self, name).requires_grad_(False))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        outputs = {}
        for name in self.names:
            outputs[name] = x = getattr(self, name)(x)
        return {name: outputs[name] for name in self._out_features}


def _block(settings: CfgNode, index: int, inputs: int, outputs: int, stride: int, dilation: int) -> ResidualBlock:
    """The basic block of ResNet-18 and -34, or the bottleneck block of deeper ones."""
    if settings.DEPTH < 50:
        return ResidualBlock([(inputs, outputs, 3, stride), (outputs, outputs, 3, 1)], settings.NORM)
    first, second = (stride, 1) if settings.STRIDE_IN_1X1 else (1, stride)
    width = settings.NUM_GROUPS * settings.WIDTH_PER_GROUP * 2**index
    shapes = [(inputs, width, 1, first), (width, width, 3, second), (width, outputs, 1, 1)]
    return ResidualBlock(shapes, settings.NORM, dilation=dilation, groups=settings.NUM_GROUPS)


def _check(settings: CfgNode) -> None:
    """Refuse what ResNets, or those of this depth, can't have."""
    allowed = {"DEPTH": tuple(BLOCKS_PER_STAGE), "RES5_DILATION": (1, 2), "DEFORM_ON_PER_STAGE": ([False] * 4,)}
    if settings.DEPTH < 50:
        allowed |= {"RES2_OUT_CHANNELS": (64,), "RES5_DILATION": (1,), "NUM_GROUPS": (1,)}
    for key, values in allowed.items():
        if settings[key] not in values:
            choice = " or ".join(map(str, values))
            raise ConfigError(f"MODEL.RESNETS.{key} is {settings[key]}; set it to {choice} for DEPTH {settings.DEPTH}.")


# Under the name of Detectron2's function, which configs use.
BACKBONE_REGISTRY._do_register("build_resnet_backbone", ResNet)
