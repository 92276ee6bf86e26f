"""Checkpoints: other programs' names, our categories, and what doesn't fit."""

from __future__ import annotations

import argparse
import logging

import pytest
import torch
import torchvision

from detr_d2.checkpoint import PUBLISHED_WEIGHTS, DetrCheckpointer, convert_names
from detr_d2.checkpoint.names import rename_resnet
from detr_d2.errors import MissingFileError, WeightsError

from detectron2.modeling import build_model

MASKS = ("MODEL.DETR.MASK_ON", True)
STAGE2 = (*MASKS, "MODEL.DETR.FREEZE_DETECTOR", True)


def _to_published(name: str) -> str:
    """The published name of one of our parameters: the other way round, written apart from the code under test."""
    name = name.removeprefix("detr.")
    if not name.startswith("backbone."):
        return name
    block = name.removeprefix("backbone.")
    block = block.replace("stem.conv1.norm", "bn1").replace("stem.conv1", "conv1")
    for i in (1, 2, 3):
        block = block.replace(f".conv{i}.norm.", f".bn{i}.")
    block = block.replace(".shortcut.norm.", ".downsample.1.").replace(".shortcut.", ".downsample.0.")
    for i in (1, 2, 3, 4):
        block = block.replace(f"res{i + 1}.", f"layer{i}.")
    return "backbone.0.body." + block


def _save_stage1(cfg, folder, **changes):
    model = build_model(cfg)
    checkpointer = DetrCheckpointer(model, str(folder))
    checkpointer.save("model_final", **changes)
    return model, str(folder / "model_final.pth")


def _same_weights(a, b) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


def test_checkpoint_is_plain_data_and_carries_the_categories(tiny_config, tmp_path):
    _, path = _save_stage1(tiny_config(), tmp_path)

    content = torch.load(path, weights_only=True)

    assert content["detr_d2"]["categories"][0] == {
        "id": 5,
        "name": "brick_stack",
        "isthing": 1,
        "color": pytest.approx(content["detr_d2"]["categories"][0]["color"]),
    }
    assert [entry["name"] for entry in content["detr_d2"]["categories"]][-1] == "plant"


def test_saved_model_loads_again(tiny_config, tmp_path):
    saved, path = _save_stage1(tiny_config(*MASKS), tmp_path)
    model = build_model(tiny_config(*MASKS))
    assert not _same_weights(model, saved)

    DetrCheckpointer(model).load(path)

    assert _same_weights(model, saved)


def test_stage_2_takes_the_detector_of_stage_1(tiny_config, tmp_path, caplog):
    stage1, path = _save_stage1(tiny_config(), tmp_path)
    stage2 = build_model(tiny_config(*STAGE2))

    with caplog.at_level(logging.INFO, "detr_d2"):
        DetrCheckpointer(stage2, fine_tune=True).load(path)

    assert _same_weights(stage1.detr, stage2.detr)
    [table] = [record.getMessage() for record in caplog.records if "part of the model" in record.getMessage()]
    rows = {
        line.split()[0]: line.split()[1:] for line in table.splitlines() if line.startswith(("detr.", "mask_", "bbox_"))
    }
    assert rows["detr.class_embed"] == ["2"] and rows["bbox_attention"] == ["4"]
    assert table.splitlines()[1].index("loaded") < table.splitlines()[1].index("not in file")


@pytest.mark.parametrize("prefix", ["", "detr."])
def test_published_names_load_as_they_are(tiny_config, tmp_path, prefix):
    source = build_model(tiny_config(*MASKS))
    weights = {}
    for name, value in source.state_dict().items():
        published = _to_published(name)
        weights[prefix + published if name.startswith("detr.") else published] = value
    file = tmp_path / "published.pth"
    torch.save({"model": weights, "args": argparse.Namespace(lr=1e-4)}, file)
    model = build_model(tiny_config(*MASKS))

    DetrCheckpointer(model).load(str(file))

    assert _same_weights(model, source)


def test_resnet_names_are_torchvisions(tiny_config, tmp_path):
    ours = build_model(
        tiny_config(
            "MODEL.RESNETS.STEM_OUT_CHANNELS",
            64,
            "MODEL.RESNETS.RES2_OUT_CHANNELS",
            256,
            "MODEL.RESNETS.WIDTH_PER_GROUP",
            64,
        )
    ).detr.backbone.state_dict()

    theirs = {
        rename_resnet(name): value
        for name, value in torchvision.models.resnet50().state_dict().items()
        if not name.startswith("fc.")
    }

    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}


def test_torchvision_and_detectron2_backbones_are_recognised():
    body, origin = convert_names({"conv1.weight": 1, "layer1.0.conv1.weight": 2, "fc.weight": 3})
    assert origin == "torchvision ResNet"
    assert body == {"detr.backbone.stem.conv1.weight": 1, "detr.backbone.res2.0.conv1.weight": 2}

    body, origin = convert_names({"stem.conv1.weight": 1, "res2.0.conv1.weight": 2, "stem.fc.weight": 3})
    assert origin == "Detectron2 ResNet"
    assert body == {"detr.backbone.stem.conv1.weight": 1, "detr.backbone.res2.0.conv1.weight": 2}


def test_fine_tuning_takes_classes_by_name_and_says_which_start_anew(tiny_config, tmp_path, caplog):
    saved, path = _save_stage1(tiny_config(), tmp_path)
    content = torch.load(path, weights_only=True)
    chosen = [6, 2, 0]  # sky among them, in another order
    for name in ("detr.class_embed.weight", "detr.class_embed.bias"):
        content["model"][name] = content["model"][name][[*chosen, -1]]
    content["detr_d2"]["categories"] = [content["detr_d2"]["categories"][number] for number in chosen]
    content["detr_d2"]["categories"][0]["name"] = "Sky-other-merged"
    torch.save(content, path)
    model = build_model(tiny_config())
    fresh = model.detr.class_embed.weight.detach().clone()

    with caplog.at_level(logging.INFO, "detr_d2"):
        DetrCheckpointer(model, fine_tune=True).load(path)

    head, theirs = model.detr.class_embed, saved.detr.class_embed
    same = [0, 2, 6, -1]
    assert torch.equal(head.weight[same], theirs.weight[same]) and torch.equal(head.bias[same], theirs.bias[same])
    assert torch.equal(head.weight[[1, 3, 4, 5, 7, 8, 9]], fresh[[1, 3, 4, 5, 7, 8, 9]])
    assert "taken from the file by name, 3: brick_stack, drum, sky" in caplog.text
    assert "start anew, 7: pipe, cone" in caplog.text


def _stage1_of(changes, tiny_config, tmp_path) -> str:
    _, path = _save_stage1(tiny_config(), tmp_path)
    content = torch.load(path, weights_only=True)
    changes(content)
    torch.save(content, path)
    return path


def _no_stuff(content) -> None:
    content["detr_d2"]["categories"] = [c for c in content["detr_d2"]["categories"] if c["isthing"]]


def _other_names(content) -> None:
    content["detr_d2"]["categories"][2]["name"] = "bathtub"


def _unknown_origin(content) -> None:
    del content["detr_d2"]
    content["model"]["detr.class_embed.weight"] = torch.zeros(92, 32)


def _backbone_only(content) -> None:
    del content["detr_d2"]
    content["model"] = {name: value for name, value in content["model"].items() if "backbone" in name}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (_no_stuff, "no stuff"),
        (_other_names, "bathtub"),
        (_unknown_origin, "92 outputs"),
        (_backbone_only, "no class head"),
    ],
)
def test_stage_2_refuses_a_detector_that_would_be_frozen_for_nothing(changes, message, tiny_config, tmp_path):
    path = _stage1_of(changes, tiny_config, tmp_path)

    with pytest.raises(WeightsError, match=message) as error:
        DetrCheckpointer(build_model(tiny_config(*STAGE2)), fine_tune=True).load(path)

    assert "stage 1" in str(error.value) and path in str(error.value)


def test_evaluation_refuses_weights_of_other_classes(tiny_config, tmp_path):
    path = _stage1_of(_other_names, tiny_config, tmp_path)

    with pytest.raises(WeightsError, match="bathtub"):
        DetrCheckpointer(build_model(tiny_config())).load(path)


def test_stage_2_without_weights_is_refused(tiny_config):
    with pytest.raises(WeightsError, match="never learnt"):
        DetrCheckpointer(build_model(tiny_config(*STAGE2))).load("")


def test_missing_file_is_named(tiny_config):
    with pytest.raises(MissingFileError, match=r"no/such\.pth"):
        DetrCheckpointer(build_model(tiny_config())).load("no/such.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_file_that_is_no_checkpoint_is_named(content, tiny_config, tmp_path):
    file = tmp_path / "broken.pth"
    file.write_bytes(content)

    with pytest.raises(WeightsError, match=r"broken\.pth"):
        DetrCheckpointer(build_model(tiny_config())).load(str(file))


class _Dangerous:
    def __reduce__(self):
        return print, ("this ran",)


def test_code_in_a_checkpoint_is_not_run(tiny_config, tmp_path, capsys):
    file = tmp_path / "dangerous.pth"
    torch.save({"model": {}, "extra": _Dangerous()}, file)

    with pytest.raises(WeightsError, match=r"needs pickle.*print.*plain data"):
        DetrCheckpointer(build_model(tiny_config())).load(str(file))

    assert "this ran" not in capsys.readouterr().out


def test_published_addresses_are_complete():
    assert set(PUBLISHED_WEIGHTS) >= {
        "detr-r50",
        "detr-r50-dc5",
        "detr-r101",
        "detr-r50-panoptic",
        "detr-r101-panoptic",
    }
    assert all(address.startswith("https://") and address.endswith(".pth") for address in PUBLISHED_WEIGHTS.values())
