"""Folded norms: the same result, and everything else as it was."""

import copy

import pytest
import torch
from torch import nn

from detr_d2.acceleration import fold_norms_

from detectron2.config import get_cfg
from detectron2.modeling import build_backbone


def _resnet(norm: str = "FrozenBN", freeze_at: int = 2) -> nn.Module:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.RESNETS.NORM", norm, "MODEL.BACKBONE.FREEZE_AT", freeze_at])
    cfg.merge_from_list(["MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 8])
    cfg.merge_from_list(["MODEL.RESNETS.WIDTH_PER_GROUP", 4, "MODEL.RESNETS.OUT_FEATURES", ["res2", "res5"]])
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_resnet_backbone"])
    backbone = build_backbone(cfg)
    for name, value in backbone.state_dict().items():
        if "norm" in name and value.is_floating_point():
            value.copy_(torch.rand(value.shape) + 0.5)
    return backbone


def _counted(backbone: nn.Module) -> list[nn.Module]:
    """The norms that ran since, in a list that grows."""
    ran: list[nn.Module] = []
    for module in backbone.modules():
        if hasattr(module, "running_mean"):
            module.register_forward_hook(lambda module, *_: ran.append(module))
    return ran


def _assert_same(features: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(features[name] / value.std(), value / value.std(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
def test_folded_backbone_gives_the_same_features_without_norms(norm):
    plain = _resnet(norm).eval()
    folded = copy.deepcopy(plain)
    fold_norms_(folded)
    ran = _counted(folded)
    image = torch.randn(2, 3, 65, 96)

    with torch.no_grad():
        expected, features = plain(image), folded(image)

    _assert_same(features, expected)
    assert ran == []


def test_folding_changes_no_parameter_and_follows_weights_that_are_loaded_later():
    folded, other = _resnet().eval(), _resnet().eval()
    names = {name: value.shape for name, value in folded.state_dict().items()}
    fold_norms_(folded)
    image = torch.randn(1, 3, 64, 64)

    with torch.no_grad():
        folded(image)
        folded.load_state_dict(other.state_dict())
        _assert_same(folded(image), other(image))

    assert {name: value.shape for name, value in folded.state_dict().items()} == names


def test_what_trains_is_not_folded_and_gets_the_same_gradients():
    plain = _resnet("BN", freeze_at=2).train()
    folded = copy.deepcopy(plain)
    fold_norms_(folded)
    ran = _counted(folded)
    image = torch.randn(2, 3, 64, 64)

    for backbone in (plain, folded):
        backbone(image)["res5"].square().mean().backward()

    expected = {name: value.grad for name, value in plain.named_parameters() if value.grad is not None}
    gradients = {name: value.grad for name, value in folded.named_parameters() if value.grad is not None}
    assert expected and set(gradients) == set(expected)
    torch.testing.assert_close(gradients, expected, atol=1e-5, rtol=1e-3)
    assert set(map(id, ran)) == {id(m) for m in folded.modules() if isinstance(m, nn.BatchNorm2d)}


def test_copies_of_a_folded_backbone_use_their_own_weights():
    backbone = _resnet().eval()
    fold_norms_(backbone)
    image = torch.randn(1, 3, 64, 64)
    copied = copy.deepcopy(backbone)

    with torch.no_grad():
        before = copied(image)["res5"]
        for parameter in backbone.parameters():
            parameter.zero_()

        assert torch.equal(copied(image)["res5"], before)


def test_other_norms_are_left_alone():
    layer = nn.Conv2d(3, 8, 1)
    layer.norm = nn.GroupNorm(4, 8)
    x = torch.randn(2, 3, 5, 5)
    expected = layer(x)

    fold_norms_(nn.Sequential(layer))

    assert torch.equal(layer(x), expected)
