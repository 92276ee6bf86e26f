"""ResNet: names, shapes, freezing and numbers are Detectron2's and torchvision's."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torchvision

from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_backbone

ALL_STAGES = ["res2", "res3", "res4", "res5"]


def make_cfg(**resnets: Any) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.FREEZE_AT = resnets.pop("FREEZE_AT", 0)
    cfg.MODEL.RESNETS.OUT_FEATURES = ALL_STAGES
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    if resnets.get("DEPTH", 50) < 50:
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    for key, value in resnets.items():
        cfg.MODEL.RESNETS[key] = value
    return cfg


def make_images() -> torch.Tensor:
    return torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def detectron2_name(torchvision_name: str) -> str:
    name = re.sub(r"layer(\d)", lambda match: f"res{int(match[1]) + 1}", torchvision_name)
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    name = re.sub(r"bn(\d)", r"conv\1.norm", name)
    return name if name.startswith("res") else f"stem.{name}"


def torchvision_network(depth: int) -> torch.nn.Module:
    """With running statistics that aren't the identity."""
    network = torchvision.models.get_model(f"resnet{depth}", weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    return network.eval()


def torchvision_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {detectron2_name(k): v for k, v in network.state_dict().items() if not k.startswith("fc.")}


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_resnet_parameter_names_and_shapes_are_those_mapped_from_torchvision(depth: int) -> None:
    expected = torchvision_weights(torchvision.models.get_model(f"resnet{depth}", weights=None))

    backbone = build_backbone(make_cfg(DEPTH=depth, NORM="BN"))

    assert {k: v.shape for k, v in backbone.state_dict().items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", "SyncBN"])
@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_outputs_equal_torchvision_with_the_same_weights(depth: int, norm: str) -> None:
    reference = torchvision_network(depth)
    backbone = build_backbone(make_cfg(DEPTH=depth, NORM=norm)).eval()
    missing = backbone.load_state_dict(torchvision_weights(reference), strict=False).missing_keys
    images = make_images()

    with torch.no_grad():
        outputs = backbone(images)
        x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(images))))
        for name, stage in zip(ALL_STAGES, (reference.layer1, reference.layer2, reference.layer3, reference.layer4)):
            x = stage(x)
            torch.testing.assert_close(outputs[name], x, atol=1e-4, rtol=1e-4)
    assert missing == []


# Mean absolute outputs of Detectron2 0.6 (torch 2.15, CPU), weights drawn from seed 0.
RECORDED = [
    ({"STRIDE_IN_1X1": True, "FREEZE_AT": 2}, {"res2": 0.367455, "res3": 1.088122, "res4": 6.083845, "res5": 9.59415}),
    ({"STRIDE_IN_1X1": True, "FREEZE_AT": 2, "NORM": "BN"}, {"res2": 0.367446, "res5": 9.592977}),
    ({"DEPTH": 18, "NORM": "BN", "OUT_FEATURES": ["stem", "res5"]}, {"stem": 0.444433, "res5": 0.927153}),
    ({"DEPTH": 34, "NORM": "GN", "OUT_FEATURES": ["res3"]}, {"res3": 1.276669}),
    ({"NORM": "", "NUM_GROUPS": 32, "WIDTH_PER_GROUP": 4, "STRIDE_IN_1X1": True}, {"res4": 0.095108}),
]


@pytest.mark.parametrize(("settings", "means"), RECORDED)
def test_resnet_seeded_outputs_are_those_recorded_from_detectron2(
    settings: dict[str, Any], means: dict[str, float]
) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(make_cfg(**settings)).eval()

    with torch.no_grad():
        outputs = backbone(make_images())

    for name, mean in means.items():
        assert outputs[name].abs().mean().item() == pytest.approx(mean, rel=1e-4)


def test_resnet_output_shape_tells_channels_and_strides() -> None:
    backbone = build_backbone(make_cfg(OUT_FEATURES=["stem", "res5"]))

    assert backbone.output_shape() == {
        "stem": ShapeSpec(channels=64, stride=4),
        "res5": ShapeSpec(channels=2048, stride=32),
    }


def test_resnet_dilated_res5_keeps_the_size_of_res4() -> None:
    backbone = build_backbone(make_cfg(RES5_DILATION=2)).eval()

    with torch.no_grad():
        outputs = backbone(make_images())

    assert outputs["res4"].shape == (1, 1024, 4, 6)
    assert outputs["res5"].shape == (1, 2048, 4, 6)
    assert backbone.output_shape()["res5"] == ShapeSpec(channels=2048, stride=16)


def test_resnet_has_no_stage_after_the_last_output() -> None:
    names = build_backbone(make_cfg(OUT_FEATURES=["res3"])).state_dict()

    assert {name.split(".")[0] for name in names} == {"stem", "res2", "res3"}


def test_resnet_freezing_stops_gradients_and_makes_norms_constant() -> None:
    backbone = build_backbone(make_cfg(NORM="BN", FREEZE_AT=2))

    trainable = {name.split(".")[0] for name, value in backbone.named_parameters() if value.requires_grad}
    frozen = {name.split(".")[0] for name, value in backbone.named_parameters() if not value.requires_grad}
    assert trainable == {"res3", "res4", "res5"} and frozen == {"stem", "res2"}
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.stem.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.res3.modules())


def test_resnet_frozen_norms_pass_the_gradient_of_batch_norm_in_evaluation() -> None:
    torch.manual_seed(0)
    gradients = []
    weights = torchvision_weights(torchvision_network(18))
    for norm in ("BN", "FrozenBN"):
        backbone = build_backbone(make_cfg(DEPTH=18, NORM=norm)).eval()
        backbone.load_state_dict(weights, strict=False)
        images = make_images().requires_grad_()
        backbone(images)["res3"].sum().backward()
        gradients.append(images.grad)

    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("settings", [{"RES2_OUT_CHANNELS": 256}, {"RES5_DILATION": 2}, {"NUM_GROUPS": 2}])
def test_resnet18_refuses_what_it_cannot_have(settings: dict[str, Any]) -> None:
    key = next(iter(settings))

    with pytest.raises((AssertionError, ValueError), match=f"MODEL.RESNETS.{key}"):
        build_backbone(make_cfg(DEPTH=18, **settings))


def test_backbones_can_be_registered() -> None:
    class Halving(Backbone):
        def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
            super().__init__()
            self._out_features = ["half"]
            self._out_feature_channels = {"half": input_shape.channels}
            self._out_feature_strides = {"half": 2}

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"half": x[:, :, ::2, ::2]}

    BACKBONE_REGISTRY.register(Halving)
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "Halving"

    assert build_backbone(cfg).output_shape() == {"half": ShapeSpec(channels=3, stride=2)}
