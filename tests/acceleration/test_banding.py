"""Bands of rows: the same features as in one piece, whatever the size."""

import math

import pytest
import torch
from torch import nn

from detr_d2.acceleration import band_first_stages_, banding

from detectron2.config import get_cfg
from detectron2.modeling import build_backbone


def _resnet(features: tuple[str, ...] = ("res2", "res3", "res5"), depth: int = 50) -> nn.Module:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.RESNETS.DEPTH", depth, "MODEL.RESNETS.OUT_FEATURES", list(features)])
    if depth >= 50:
        cfg.merge_from_list(["MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 8])
        cfg.merge_from_list(["MODEL.RESNETS.WIDTH_PER_GROUP", 4])
    else:
        cfg.merge_from_list(["MODEL.RESNETS.RES2_OUT_CHANNELS", 64])
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_resnet_backbone"])
    backbone: nn.Module = build_backbone(cfg)
    return backbone.eval()


@pytest.mark.parametrize("size", [(257, 63), (300, 17), (181, 32), (500, 40)])
@pytest.mark.parametrize("batch", [1, 3])
def test_bands_give_the_same_features(size, batch, monkeypatch):
    backbone = _resnet()
    images = torch.randn(batch, 3, *size)
    with torch.no_grad():
        expected = backbone(images)
        stems = []
        backbone.stem.register_forward_hook(lambda _module, inputs, _output: stems.append(inputs[0].shape))
        monkeypatch.setattr(banding, "BAND_BYTES", 31 * 8 * 4 * -(-size[1] // 4))  # bands of 21 rows
        band_first_stages_(backbone)

        features = backbone(images)

    assert len(stems) == batch * math.ceil(math.ceil(size[0] / 4) / 21)
    assert max(shape[2] for shape in stems) <= 4 * 31
    assert set(features) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(features[name] / value.std(), value / value.std(), atol=1e-5, rtol=1e-5)


def test_training_and_small_images_go_in_one_piece(monkeypatch):
    backbone = _resnet()
    band_first_stages_(backbone)
    stems = []
    backbone.stem.register_forward_hook(lambda _module, inputs, _output: stems.append(inputs[0].shape))

    with torch.no_grad():
        backbone(torch.randn(1, 3, 64, 64))
    monkeypatch.setattr(banding, "BAND_BYTES", 31 * 8 * 4 * 16)
    backbone(torch.randn(1, 3, 256, 64))

    assert [shape[2] for shape in stems] == [64, 256]


@pytest.mark.parametrize("backbone", [nn.Sequential(), _resnet(("stem", "res5")), _resnet(depth=18)])
def test_other_backbones_are_left_alone(backbone):
    band_first_stages_(backbone)

    assert "forward" not in vars(backbone)
