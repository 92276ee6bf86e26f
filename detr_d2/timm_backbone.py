"""Any of timm's networks with feature maps as a Detectron2 backbone: ``MODEL.BACKBONE.NAME: build_timm_backbone``."""

from __future__ import annotations

import difflib
import importlib.util
import pickle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detr_d2.errors import ConfigError, MissingFileError, WeightsError
from detr_d2.files import open_regular

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
"""The feature maps by Detectron2's names, and how many pixels of the image one of theirs stands for."""

#: Arguments by which networks that are made for one size of images take others, as their families have them.
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True})
_PROBE = (64, 96)


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """The network of ``MODEL.TIMM.NAME``.

    Args:
        cfg: ``MODEL.TIMM``, ``MODEL.BACKBONE.FREEZE_AT``, ``MODEL.PIXEL_MEAN``, ``MODEL.PIXEL_STD`` and
            ``INPUT.FORMAT`` are looked at.
        input_shape: of the images; three channels.

    Raises:
        ConfigError: timm isn't installed, there is no such network, or it gives no feature maps that DETR can use.
        MissingFileError, WeightsError: of its pretrained weights.
    """
    options = cfg.MODEL.TIMM
    return TimmBackbone(
        options.NAME,
        weights=options.WEIGHTS,
        pretrained=options.PRETRAINED and not cfg.MODEL.WEIGHTS,  # which has a backbone of its own
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        freeze_norms=options.FREEZE_BN,
        layer_decay=options.LAYER_DECAY,
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
        is_bgr=cfg.INPUT.FORMAT == "BGR",
    )


class TimmBackbone(Backbone):
    """A network of timm, whose feature maps of strides 4, 8, 16 and 32 are called ``res2`` to ``res5``.

    Plain vision transformers, whose maps all have stride 16, get a simple feature pyramid.

    Source: Li et al. 2022, "Exploring Plain Vision Transformer Backbones for Object Detection", section 3.

    Args:
        name: of timm, with or without the name of pretrained weights: ``convnext_tiny.fb_in22k``.
        weights: file of pretrained weights of this network, as timm publishes them; empty: none.
        pretrained: take the weights of timm's cache, or fetch them.
        freeze_at: 1 freezes the stem, 2 the first stage as well (of plain transformers, the first block), and so on.
        freeze_norms: batch norms keep statistics and weights.
        layer_decay: each layer learns by this factor slower than the one behind it; 1: all alike.
        pixel_mean, pixel_std: of the images that come, by channel, for 0 to 255; they are changed to the network's own.
        is_bgr: the images' channels are blue, green, red.

    Raises:
        ConfigError, MissingFileError, WeightsError: see :func:`build_timm_backbone`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        name: str,
        *,
        weights: str = "",
        pretrained: bool = False,
        freeze_at: int = 0,
        freeze_norms: bool = False,
        layer_decay: float = 1.0,
        pixel_mean: list[float] | None = None,
        pixel_std: list[float] | None = None,
        is_bgr: bool = False,
    ) -> None:
        super().__init__()
        self.network = _create(name, weights, pretrained)
        self.is_bgr, self._layer_decay = is_bgr, layer_decay
        self._add_normalisation(pixel_mean, pixel_std)
        strides = [feature["reduction"] for feature in self.network.feature_info]
        is_plain = set(strides) == {16}
        if not is_plain and not set(STRIDES.values()) <= set(strides):
            raise ConfigError(
                f"MODEL.TIMM.NAME is {name!r}, whose feature maps have the strides "
                f"{', '.join(map(str, sorted(set(strides))))}; DETR and its mask head need 4, 8, 16 and 32, or a plain "
                "vision transformer with patches of 16 pixels. Choose another network."
            )
        last = {stride: index for index, stride in enumerate(strides)}
        self._indices = [last[16]] if is_plain else [last[stride] for stride in STRIDES.values()]
        self.network.prune_intermediate_layers(self._indices, prune_norm=True, prune_head=True)
        if hasattr(self.network, "head"):  # of which releases of timm before 1.0.31 keep the norm
            self.network.head = nn.Identity()
        widths = [self.network.feature_info[index]["num_chs"] for index in self._indices]
        self.pyramid = SimplePyramid(widths[0]) if is_plain else None
        widths = widths if self.pyramid is None else self.pyramid.widths
        self._out_features = list(STRIDES)
        self._out_feature_strides = dict(STRIDES)
        self._out_feature_channels = dict(zip(STRIDES, widths, strict=True))
        self._refuse_one_size(name)
        if freeze_norms:
            from timm.utils.model import freeze_batch_norm_2d

            self.network = freeze_batch_norm_2d(self.network)
        self._freeze(freeze_at)

    def _add_normalisation(self, pixel_mean: list[float] | None, pixel_std: list[float] | None) -> None:
        """``scale`` and ``shift`` (3, 1, 1) from images as they come to the network's own normalisation."""
        own = [255 * torch.tensor(self.network.pretrained_cfg[key]) for key in ("mean", "std")]
        given = [
            torch.tensor(value, dtype=torch.float32).flip(0 if self.is_bgr else ()) if value else mine
            for value, mine in zip((pixel_mean, pixel_std), own, strict=True)
        ]
        scale, shift = given[1] / own[1], (given[0] - own[0]) / own[1]
        self.register_buffer("scale", scale.view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(-1, 1, 1), persistent=False)

    @torch.no_grad()
    def _refuse_one_size(self, name: str) -> None:
        was_training = self.training
        try:
            self.eval()(torch.zeros(1, 3, *_PROBE))
        except (AssertionError, RuntimeError, ValueError) as error:
            size = self.network.pretrained_cfg.get("input_size", (3, 224, 224))[-1]
            raise ConfigError(
                f"MODEL.TIMM.NAME is {name!r}, which takes images of {size}x{size} pixels only ({error}). Choose a "
                "network for images of any size."
            ) from error
        self.train(was_training)

    def _grouped(self, coarse: bool) -> dict[str, int]:
        """Parameters' names, and which stage (or layer) each is in; 0: the stem. Empty where timm doesn't say."""
        from timm.models._manipulate import group_with_matcher

        if not hasattr(self.network, "group_matcher"):
            return {}
        matcher = self.network.group_matcher(coarse=coarse)
        found: dict[str, int] = group_with_matcher(self.network.named_parameters(), matcher, reverse=True)
        return found

    def _freeze(self, stages: int) -> None:
        numbers = self._grouped(coarse=True)
        if stages and not numbers:
            raise ConfigError(
                f"MODEL.BACKBONE.FREEZE_AT is {stages}, and timm doesn't say what the stages of this network are. Set "
                "MODEL.BACKBONE.FREEZE_AT 0."
            )
        for name, parameter in self.network.named_parameters():
            if numbers.get(name, stages) < stages:
                parameter.requires_grad_(False)

    def learning_rate_scales(self) -> dict[nn.Parameter, float]:
        """What each parameter's learning rate is to be multiplied by, beside ``SOLVER.BACKBONE_MULTIPLIER``."""
        if self._layer_decay == 1.0:
            return {}
        numbers = self._grouped(coarse=False)
        last = max(numbers.values(), default=0)
        parameters = dict(self.network.named_parameters())
        return {parameters[name]: self._layer_decay ** (last - number) for name, number in numbers.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to maps (B, C, H/stride, W/stride), rounded up."""
        height, width = images.shape[-2:]
        images = images.flip(1) if self.is_bgr else images
        images = images * self.scale + self.shift
        images = F.pad(
            images, (0, (width + 31) // 32 * 32 - width, 0, (height + 31) // 32 * 32 - height)
        )  # or windows and patches wouldn't fit
        maps = self.network.forward_intermediates(images, indices=self._indices, intermediates_only=True)
        maps = maps if self.pyramid is None else self.pyramid(maps[0])
        sizes = [((height + stride - 1) // stride, (width + stride - 1) // stride) for stride in STRIDES.values()]
        return {name: one[:, :, :h, :w] for name, one, (h, w) in zip(STRIDES, maps, sizes, strict=True)}


class SimplePyramid(nn.Module):
    """Maps of strides 4, 8, 16 and 32 of one of stride 16, (B, C, h, w).

    Args:
        width: C; a multiple of 4.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widths = [width // 4, width // 2, width, width]
        self.res2 = nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 2, stride=2),
            nn.GroupNorm(1, width // 2),
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2),
        )
        self.res3 = nn.ConvTranspose2d(width, width // 2, 2, stride=2)
        self.res5 = nn.MaxPool2d(2)

    def forward(self, features: Tensor) -> list[Tensor]:
        """The four maps."""
        return [self.res2(features), self.res3(features), features, self.res5(features)]


def _create(name: str, weights: str, pretrained: bool) -> Any:
    """The network, with its pretrained weights where they are asked for."""
    if importlib.util.find_spec("timm") is None:
        raise ConfigError("build_timm_backbone needs timm, which isn't installed: pip install 'detr_d2[timm]'.")
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), 3)
        advice = f"perhaps {', '.join(near)} is meant" if near else "timm.list_models() gives them all"
        raise ConfigError(f"MODEL.TIMM.NAME is {name!r}; timm {timm.__version__} has no such network; {advice}.")
    options: dict[str, Any] = {"pretrained": pretrained or bool(weights)}
    if weights:
        options["pretrained_cfg_overlay"] = {"state_dict": _read(weights)}
    try:
        network = _build(name, options)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        source = weights or "the pretrained weights, of timm's cache or fetched,"
        raise WeightsError(
            f"MODEL.TIMM.NAME is {name!r}, and {source} can't be had or don't fit: {reason}. Name a file by "
            "MODEL.TIMM.WEIGHTS, or set MODEL.TIMM.PRETRAINED False."
        ) from error
    lacking = [each for each in ("forward_intermediates", "prune_intermediate_layers") if not hasattr(network, each)]
    if lacking or not getattr(network, "feature_info", None):
        raise ConfigError(
            f"MODEL.TIMM.NAME is {name!r}, of which timm {timm.__version__} gives no feature maps. Choose a network "
            "that timm.create_model(NAME, features_only=True) takes, or another version of timm."
        )
    return network


def _build(name: str, options: dict[str, Any]) -> Any:
    """The network, for images of any size where its family has an argument for that."""
    import timm

    for more in _ANY_SIZE:
        try:
            return timm.create_model(name, **options, **more)
        except TypeError:  # of another family
            continue
    return timm.create_model(name, **options)


def _read(path: str) -> Any:
    """A file of weights; nothing in it is run."""
    from timm.models import load_state_dict

    try:
        open_regular(path).close()
        return load_state_dict(path, device="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise MissingFileError(f"MODEL.TIMM.WEIGHTS is {path}, which isn't there.") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(
            f"MODEL.TIMM.WEIGHTS is {path}, which is no file of weights that can be read safely: "
            f"{str(error).splitlines()[0]}."
        ) from error
