"""Files of exactly the published names and shapes, written down apart from the code under test, load as they are."""

from __future__ import annotations

import argparse
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from detr_d2 import cli
from detr_d2.checkpoint import DetrCheckpointer, convert_names, load_model, read_weights
from detr_d2.checkpoint.weights_command import describe
from detr_d2.data import coco_categories
from detr_d2.errors import WeightsError

from detectron2.modeling import build_model

TINY_RESNET = (
    "MODEL.RESNETS.RES2_OUT_CHANNELS",
    16,
    "MODEL.RESNETS.RES5_DILATION",
    1,
    "MODEL.RESNETS.NORM",
    "FrozenBN",
)

Shapes = dict[str, tuple[int, ...]]

MASKS = ("MODEL.DETR.MASK_ON", True)
COCO = ("DATASETS.TRAIN", "()", "DATASETS.TEST", "('coco_2017_val_panoptic_detr',)")
FULL = {"width": 256, "feedforward": 2048, "layers": (6, 6), "queries": 100, "bottleneck": 64}
TINY = {"width": 32, "feedforward": 32, "layers": (1, 2), "queries": 12, "bottleneck": 4, "stem": 8, "out": 16}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


def _resnet(blocks: tuple[int, ...], bottleneck: int, stem: int, out: int) -> Shapes:
    """torchvision's names of a ResNet of bottleneck blocks, without its classifier."""
    shapes: Shapes = {"conv1.weight": (stem, 3, 7, 7), **_norm("bn1", stem)}
    inputs = stem
    for stage, count in enumerate(blocks):
        middle, outputs = bottleneck * 2**stage, out * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            shapes |= {f"{name}.conv1.weight": (middle, inputs, 1, 1), **_norm(f"{name}.bn1", middle)}
            shapes |= {f"{name}.conv2.weight": (middle, middle, 3, 3), **_norm(f"{name}.bn2", middle)}
            shapes |= {f"{name}.conv3.weight": (outputs, middle, 1, 1), **_norm(f"{name}.bn3", outputs)}
            if block == 0:
                shapes |= {f"{name}.downsample.0.weight": (outputs, inputs, 1, 1)}
                shapes |= _norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    return shapes


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _transformer(width: int, feedforward: int, layers: tuple[int, int]) -> Shapes:
    shapes: Shapes = {}
    for part, count, attentions in (("encoder", layers[0], 1), ("decoder", layers[1], 2)):
        for layer in range(count):
            name = f"transformer.{part}.layers.{layer}"
            for attention in ("self_attn", "multihead_attn")[:attentions]:
                shapes[f"{name}.{attention}.in_proj_weight"] = (3 * width, width)
                shapes[f"{name}.{attention}.in_proj_bias"] = (3 * width,)
                shapes |= _linear(f"{name}.{attention}.out_proj", width, width)
            shapes |= _linear(f"{name}.linear1", feedforward, width) | _linear(f"{name}.linear2", width, feedforward)
            for norm in range(attentions + 1):
                shapes |= {f"{name}.norm{norm + 1}.{part_}": (width,) for part_ in ("weight", "bias")}
    return shapes | {f"transformer.decoder.norm.{part}": (width,) for part in ("weight", "bias")}


def _masks(width: int, heads: int, out: int) -> Shapes:
    shapes: Shapes = {}
    for name in ("q_linear", "k_linear"):
        shapes |= _linear(f"bbox_attention.{name}", width, width)
    widths = [width + heads, width + heads, width // 2, width // 4, width // 8, width // 16]
    for i in range(5):
        shapes |= {f"mask_head.lay{i + 1}.weight": (widths[i + 1], widths[i], 3, 3)}
        shapes |= {f"mask_head.lay{i + 1}.bias": (widths[i + 1],)}
        shapes |= {f"mask_head.gn{i + 1}.{part}": (widths[i + 1],) for part in ("weight", "bias")}
    for i in (1, 2, 3):
        shapes |= {f"mask_head.adapter{i}.weight": (widths[i + 1], out * 2 ** (3 - i), 1, 1)}
        shapes |= {f"mask_head.adapter{i}.bias": (widths[i + 1],)}
    return shapes | {"mask_head.out_lay.weight": (1, widths[5], 3, 3), "mask_head.out_lay.bias": (1,)}


def published_shapes(outputs: int, depth: int = 50, heads: int = 8, size: dict | None = None) -> Shapes:
    """Names and shapes of a published file; one with 251 outputs is panoptic."""
    size = size or FULL
    width, out = size["width"], size.get("out", 256)
    blocks = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    body = _resnet(blocks, size["bottleneck"], size.get("stem", 64), out)
    shapes = {f"backbone.0.body.{name}": shape for name, shape in body.items()}
    shapes |= _transformer(width, size["feedforward"], size["layers"])
    shapes |= _linear("class_embed", outputs, width) | {"query_embed.weight": (size["queries"], width)}
    for layer, wide in enumerate((width, width, 4)):
        shapes |= _linear(f"bbox_embed.layers.{layer}", wide, width)
    shapes |= {"input_proj.weight": (width, out * 8, 1, 1), "input_proj.bias": (width,)}
    if outputs != 251:
        return shapes
    return {f"detr.{name}": shape for name, shape in shapes.items()} | _masks(width, heads, out)


def _write(shapes: Shapes, file: Path) -> str:
    """A small file of these shapes: every tensor is one value, except the class head, whose rows hold their number."""
    weights = {name: torch.ones(()).expand(shape) for name, shape in shapes.items()}
    for name in ("class_embed.weight", "detr.class_embed.weight"):
        if name in shapes:
            rows = torch.arange(shapes[name][0], dtype=torch.float32)
            weights[name] = rows[:, None].expand(shapes[name])
    torch.save({"model": weights, "args": argparse.Namespace(lr=1e-4, backbone="resnet50")}, file)
    return str(file)


def test_published_panoptic_file_of_full_size_gives_a_model_of_cocos_133_classes(tmp_path):
    file = _write(published_shapes(251), tmp_path / "detr-r50-panoptic-00ce5173.pth")

    model, cfg = load_model(file, ["MODEL.DEVICE", "cpu"])

    converted, origin = convert_names(published_shapes(251))
    assert origin == "published DETR"
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert state == converted | {"detr.class_embed.weight": (134, 256), "detr.class_embed.bias": (134,)}
    assert model.detr.class_embed.weight[:, 0].tolist() == [*(category.id for category in coco_categories()), 250]
    assert (cfg.INPUT.FORMAT, cfg.MODEL.DETR.NHEADS, cfg.MODEL.RESNETS.RES5_DILATION) == ("RGB", 8, 1)


@pytest.mark.parametrize(
    ("file", "outputs", "depth", "dilated", "counts"),
    [
        ("detr-r50-e632da11.pth", 92, 50, False, (80, 0)),
        ("detr-r50-dc5-f0fb7ef5.pth", 92, 50, True, (80, 0)),
        ("detr-r101-2c7b67e5.pth", 92, 101, False, (80, 0)),
        ("detr-r101-panoptic-40021d53.pth", 251, 101, False, (80, 53)),
        ("renamed.pth", 251, 50, None, (80, 53)),
    ],
)
def test_published_files_are_recognised_by_content(tmp_path, file, outputs, depth, dilated, counts):
    description = describe(read_weights(_write(published_shapes(outputs, depth), tmp_path / file)))

    assert (description["origin"], description["backbone"]) == ("published DETR", f"ResNet-{depth}")
    assert description["kind"] == ("panoptic" if outputs == 251 else "boxes")
    assert (description["outputs"], description["queries"], description["hidden_dim"]) == (outputs, 100, 256)
    assert (description["encoder_layers"], description["decoder_layers"]) == (6, 6)
    assert (description["dilated"], description["format"]) == (dilated, "RGB")
    assert (len(description["things"]), len(description["stuff"])) == counts


def test_published_panoptic_weights_evaluate_on_coco_without_training(tiny_config, tmp_path):
    file = _write(published_shapes(251, heads=4, size=TINY), tmp_path / "panoptic.pth")
    model = build_model(tiny_config(*TINY_RESNET, *MASKS, *COCO))

    DetrCheckpointer(model).load(file)

    assert model.detr.class_embed.weight[:, 0].tolist() == [*(category.id for category in coco_categories()), 250]


def test_published_panoptic_detector_can_be_frozen_on_coco(tiny_config, tmp_path):
    file = _write(published_shapes(251, heads=4, size=TINY), tmp_path / "panoptic.pth")
    model = build_model(tiny_config(*TINY_RESNET, *MASKS, *COCO, "MODEL.DETR.FREEZE_DETECTOR", True))

    DetrCheckpointer(model, fine_tune=True).load(file)

    assert model.detr.class_embed.weight[-1, 0] == 250


def test_published_box_weights_lack_stuff_and_say_so(tiny_config, tmp_path):
    file = _write(published_shapes(92, size=TINY), tmp_path / "boxes.pth")

    with pytest.raises(WeightsError, match="92 outputs for 80 named classes, and knows no banner, blanket, bridge"):
        DetrCheckpointer(build_model(tiny_config(*TINY_RESNET, *COCO))).load(file)


def test_fine_tuning_takes_cocos_classes_by_name(tiny_config, tmp_path, caplog):
    file = _write(published_shapes(251, heads=4, size=TINY), tmp_path / "panoptic.pth")
    model = build_model(tiny_config(*TINY_RESNET, *MASKS))

    with caplog.at_level(logging.INFO, "detr_d2"):
        DetrCheckpointer(model, fine_tune=True).load(file)

    rows = dict(zip([category.name for category in model.categories], model.detr.class_embed.weight[:, 0].tolist()))
    coco = {category.name: category.id for category in coco_categories()}
    assert rows["sky"] == coco["sky-other-merged"] and rows["building"] == coco["building-other-merged"]
    assert model.detr.class_embed.weight[-1, 0] == 250
    assert "taken from the file by name, 2: sky, building" in caplog.text
    assert "start anew, 8: brick_stack" in caplog.text


def test_joint_training_begins_with_the_published_mask_head_and_the_first_queries(tiny_config, tmp_path):
    file = _write(published_shapes(251, heads=4, size=TINY), tmp_path / "panoptic.pth")
    content = torch.load(file, weights_only=False)
    queries = torch.arange(12.0)[:, None].expand(12, 32)
    torch.save({"model": {**content["model"], "detr.query_embed.weight": queries}}, file)
    joint = ("MODEL.DETR.FREEZE_DETECTOR", False, "MODEL.DETR.NUM_QUERIES", 5)
    model = build_model(tiny_config(*TINY_RESNET, *MASKS, *joint))

    DetrCheckpointer(model, fine_tune=True).load(file)

    assert torch.equal(model.detr.query_embed.weight[:, 0], torch.arange(5.0))
    for part in (model.mask_head, model.bbox_attention):
        assert all(bool((value == 1).all()) for value in part.state_dict().values())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT.FORMAT", "BGR", r"INPUT\.FORMAT is BGR\. Set INPUT\.FORMAT RGB"),
        ("MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]", r'MODEL\.PIXEL_STD is \[1, 1, 1\]\. Set MODEL\.PIXEL_STD "\[58\.395,'),
        ("MODEL.PIXEL_MEAN", "[103.53, 116.28, 123.675]", r'Set MODEL\.PIXEL_MEAN "\[123\.675,'),
    ],
)
def test_images_unlike_those_of_the_weights_are_refused(tiny_config, tmp_path, key, value, message):
    file = _write(published_shapes(251, heads=4, size=TINY), tmp_path / "panoptic.pth")

    with pytest.raises(WeightsError, match=message):
        DetrCheckpointer(build_model(tiny_config(*TINY_RESNET, *MASKS, key, value)), fine_tune=True).load(file)


def _torchvision_sized(tiny_config, *overrides):
    resnet = (*TINY_RESNET, "MODEL.RESNETS.STEM_OUT_CHANNELS", 64, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256)
    return build_model(tiny_config(*resnet, "MODEL.RESNETS.WIDTH_PER_GROUP", 64, *overrides))


def test_torchvision_backbone_gives_torchvisions_features(tiny_config, tmp_path):
    theirs = torchvision.models.resnet50().eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(std=0.1)
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    model = _torchvision_sized(tiny_config).eval()

    DetrCheckpointer(model, fine_tune=True).load(str(tmp_path / "resnet50.pth"))

    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(expected))))
        found = model.detr.backbone(image)["res5"]
    torch.testing.assert_close(found / expected.max(), expected / expected.max(), atol=1e-5, rtol=0)


def test_backbone_of_another_depth_is_refused(tiny_config, tmp_path):
    torch.save(torchvision.models.resnet101().state_dict(), tmp_path / "resnet101.pth")

    with pytest.raises(WeightsError, match=r"MODEL\.RESNETS\.DEPTH is 50\. Set MODEL\.RESNETS\.DEPTH 101"):
        DetrCheckpointer(_torchvision_sized(tiny_config), fine_tune=True).load(str(tmp_path / "resnet101.pth"))


def _detectron2_pickle(file: Path, author: str) -> str:
    body = {name: np.full(shape, 2.0, np.float32) for name, shape in _resnet((3, 4, 6, 3), 4, 8, 16).items()}
    weights = {name.removeprefix("detr.backbone."): value for name, value in convert_names(body)[0].items()}
    with file.open("wb") as stream:
        pickle.dump({"model": weights, "__author__": author, "matching_heuristics": True}, stream)
    return str(file)


def test_detectron2_backbone_of_torchvision_loads(tiny_config, tmp_path):
    model = build_model(tiny_config(*TINY_RESNET))

    DetrCheckpointer(model, fine_tune=True).load(_detectron2_pickle(tmp_path / "R-50.pkl", "torchvision"))

    assert all(bool((value == 2).all()) for value in model.detr.backbone.state_dict().values())


CAFFE2_INPUT = (
    *("INPUT.FORMAT", "BGR", "MODEL.PIXEL_MEAN", "[103.53, 116.28, 123.675]", "MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]"),
    *("MODEL.RESNETS.STRIDE_IN_1X1", True),
)


def _caffe2_pickle(file: Path) -> str:
    """Names as Detectron2's MSRA/R-50.pkl has them: batch norms are a scale (_s) and a shift (_b)."""
    weights = {}
    for name, shape in _resnet((3, 4, 6, 3), 4, 8, 16).items():
        if "running" in name:
            continue
        stem = {"conv1.weight": "conv1_w", "bn1.weight": "res_conv1_bn_s", "bn1.bias": "res_conv1_bn_b"}
        name = stem.get(name, name)
        if name.startswith("layer"):
            stage, block, part, *rest = name.split(".")
            branch = "branch1" if part == "downsample" else f"branch2{'abc'[int(part[-1]) - 1]}"
            is_norm = part.startswith("bn") or rest[0] == "1"
            ending = {"weight": "_bn_s" if is_norm else "_w", "bias": "_bn_b"}[rest[-1]]
            name = f"res{int(stage[-1]) + 1}_{block}_{branch}{ending}"
        weights[name] = np.full(shape, 3.0, np.float32)
    weights |= {"fc1000_w": np.zeros((1000, 8), np.float32), "fc1000_b": np.zeros(1000, np.float32)}
    with file.open("wb") as stream:
        pickle.dump(weights, stream)
    return str(file)


def test_caffe2_backbone_loads_where_images_and_strides_are_its_own(tiny_config, tmp_path):
    file = _caffe2_pickle(tmp_path / "R-50.pkl")
    model = build_model(tiny_config(*TINY_RESNET, *CAFFE2_INPUT))

    DetrCheckpointer(model, fine_tune=True).load(file)

    state = model.detr.backbone.state_dict()
    assert all(bool((value == 3).all()) for name, value in state.items() if "running" not in name)
    assert torch.equal(state["res3.0.shortcut.norm.running_mean"], torch.zeros(32))
    with pytest.raises(WeightsError, match=r"Set INPUT\.FORMAT BGR MODEL\.PIXEL_MEAN .* MODEL\.PIXEL_STD"):
        DetrCheckpointer(build_model(tiny_config(*TINY_RESNET)), fine_tune=True).load(file)
    with pytest.raises(WeightsError, match=r"Set MODEL\.RESNETS\.STRIDE_IN_1X1 True"):
        DetrCheckpointer(build_model(tiny_config(*TINY_RESNET, *CAFFE2_INPUT[:-1], False)), fine_tune=True).load(file)


def test_converted_published_weights_are_the_same_model(tmp_path, capsys):
    file = _write(published_shapes(251, heads=4, size=TINY), tmp_path / "panoptic.pth")
    converted = str(tmp_path / "converted.pth")

    assert cli.main(["convert-weights", file, converted, "--opts", "MODEL.RESNETS.RES5_DILATION", "2"]) == 0

    assert "133 classes, from published DETR" in capsys.readouterr().out
    direct, _ = load_model(file, ["MODEL.DEVICE", "cpu"])
    model, cfg = load_model(converted, ["MODEL.DEVICE", "cpu"])
    torch.testing.assert_close(model.state_dict(), direct.state_dict(), atol=0, rtol=0)
    assert model.categories == direct.categories == list(coco_categories())
    assert cfg.MODEL.RESNETS.RES5_DILATION == 2 and model.detr.backbone.res5[1].conv2.dilation == (2, 2)
    assert model.detr.backbone.res5[0].conv2.dilation == (1, 1)
