"""Networks of timm as backbones: timm's own features, any size of image, frozen stages, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from detr_d2 import cli
from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.data import DetrPanopticDatasetMapper
from detr_d2.errors import ConfigError, MissingFileError, WeightsError, run_command
from detr_d2.network import build_network
from detr_d2.prediction import Predictor
from detr_d2.solver import parameter_groups
from detr_d2.timm_backbone import STRIDES, TimmBackbone

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

timm = pytest.importorskip("timm", reason="timm isn't installed: pip install 'detr_d2[timm]'")

#: One small network of each of eight families.
CONVOLUTIONAL = ["resnet10t", "convnext_atto", "efficientnet_b0", "regnetx_002", "mobilenetv3_small_050"]
FAMILIES = [*CONVOLUTIONAL, "swin_tiny_patch4_window7_224", "pvt_v2_b0"]
PLAIN = "vit_tiny_patch16_224"

Config = Callable[..., CfgNode]


@pytest.fixture
def timm_config(tiny_config: Config) -> Config:
    """The tiny model with a network of timm."""

    def make(name: str, *more: object) -> CfgNode:
        return tiny_config("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", name, *more)

    return make


@pytest.mark.parametrize("name", [*FAMILIES, PLAIN])
def test_maps_have_the_sizes_of_a_resnet_s(name: str) -> None:
    backbone = TimmBackbone(name).eval()
    shapes = backbone.output_shape()

    with torch.no_grad():
        maps = backbone(torch.rand(2, 3, 70, 101))

    assert list(maps) == ["res2", "res3", "res4", "res5"]
    for key, stride in STRIDES.items():
        assert shapes[key].stride == stride
        assert maps[key].shape == (2, shapes[key].channels, -(-70 // stride), -(-101 // stride))


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_timm_s_own(name: str, tmp_path: Path) -> None:
    network = timm.create_model(name).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    pixels = 255 * torch.rand(1, 3, 224, 224)

    backbone = TimmBackbone(name, weights=str(tmp_path / "weights.pth"), pixel_mean=mean, pixel_std=std).eval()
    own = network.pretrained_cfg
    normalised = (pixels / 255 - torch.tensor(own["mean"]).view(3, 1, 1)) / torch.tensor(own["std"]).view(3, 1, 1)
    with torch.no_grad():
        maps = backbone((pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
        expected = network.forward_intermediates(normalised, intermediates_only=True)

    for one in maps.values():
        same = [other for other in expected if other.shape == one.shape]
        assert any(torch.allclose(one, other, rtol=1e-3, atol=1e-3) for other in same)


def test_a_plain_transformer_s_pyramid_stands_on_its_last_map(tmp_path: Path) -> None:
    network = timm.create_model(PLAIN, dynamic_img_size=True).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    images = torch.rand(1, 3, 64, 96)

    backbone = TimmBackbone(PLAIN, weights=str(tmp_path / "weights.pth")).eval()
    with torch.no_grad():
        maps, expected = backbone(images), network.forward_intermediates(images, indices=1, intermediates_only=True)[0]

    torch.testing.assert_close(maps["res4"], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(maps["res5"], torch.nn.functional.max_pool2d(expected, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["convnext_atto", PLAIN])
def test_a_model_trains_every_parameter_and_is_read_from_its_checkpoint(
    name: str, timm_config: Config, tmp_path: Path
) -> None:
    cfg = timm_config(name, "MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.DETR.MASK_ON", True)
    model = build_model(cfg).train()
    mapper = DetrPanopticDatasetMapper(cfg, is_train=True)
    batch = [mapper(item) for item in DatasetCatalog.get("yard_train")[:2]]

    sum(model(batch).values()).backward()
    DetrCheckpointer(model, str(tmp_path)).save("model")
    prediction = Predictor(tmp_path / "model.pth")(batch[0]["image"].permute(1, 2, 0).numpy())

    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert prediction.panoptic is not None


def test_a_model_isn_t_exported(timm_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DetrCheckpointer(build_model(timm_config("resnet10t")), str(tmp_path)).save("model")

    assert run_command(lambda: cli.main(["export", str(tmp_path / "model.pth"), str(tmp_path / "model.onnx")])) == 2

    assert "has a backbone of timm (resnet10t), and only ResNets can be exported" in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto"])
def test_accelerations_give_the_same(name: str, timm_config: Config) -> None:
    cfg = timm_config(name)
    model = build_model(cfg).eval()
    plain = build_network(cfg, len(model.categories), accelerate=False)["detr"].eval()
    plain.load_state_dict(model.detr.state_dict())
    images, padding = torch.rand(2, 3, 70, 101), torch.zeros(2, 70, 101, dtype=torch.bool)

    with torch.no_grad():
        outputs = [detr(images, padding)["pred_boxes"] for detr in (model.detr, plain)]

    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


def test_stages_are_frozen_from_the_stem_on() -> None:
    def frozen(stages: int) -> set[str]:
        backbone = TimmBackbone("convnext_atto", freeze_at=stages)
        return {name for name, parameter in backbone.network.named_parameters() if not parameter.requires_grad}

    assert frozen(0) == set()
    assert frozen(1) and all(name.startswith("stem.") for name in frozen(1))
    assert {name.split(".")[1] for name in frozen(3) if not name.startswith("stem.")} == {"0", "1"}


def test_layers_learn_the_slower_the_nearer_to_the_image(timm_config: Config) -> None:
    keys = ("MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.TIMM.LAYER_DECAY", 0.5, "SOLVER.BACKBONE_MULTIPLIER", 0.1)
    cfg = timm_config("convnext_atto", *keys)
    model = build_model(cfg)

    rate_of = {one: group["lr"] for group in parameter_groups(cfg, model) for one in group["params"]}

    network = model.detr.backbone.network
    first, last = network.stem[0].weight, network.stages[3].blocks[-1].mlp.fc2.weight
    assert rate_of[model.detr.class_embed.weight] == pytest.approx(cfg.SOLVER.BASE_LR)
    assert rate_of[first] < 0.2 * rate_of[last] <= 0.1 * 0.2 * cfg.SOLVER.BASE_LR * (1 + 1e-6) * 5
    assert len(set(rate_of.values())) > 4


def test_batch_norms_keep_their_statistics() -> None:
    backbone = TimmBackbone("resnet10t", freeze_norms=True).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items() if "running" in name}

    backbone(torch.rand(2, 3, 64, 64))

    assert before and all(torch.equal(backbone.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_tinny", "perhaps convnext_tiny"),
        ("levit_128s", "strides 16, 32, 64"),
        ("", "MODEL.TIMM.NAME is empty"),
    ],
)
def test_networks_that_don_t_go_are_named(name: str, message: str, timm_config: Config) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(timm_config(name))


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")

    with pytest.raises(WeightsError, match="don't fit"):
        TimmBackbone("convnext_atto", weights=str(tmp_path / "other.pth"))
    with pytest.raises(WeightsError, match="can be read safely"):
        TimmBackbone("convnext_atto", weights=str(tmp_path / "text.pth"))
    with pytest.raises(MissingFileError, match="isn't there"):
        TimmBackbone("convnext_atto", weights=str(tmp_path / "gone.pth"))
