"""Whatever loads weights into the model, Detectron2's own checkpointer included, gets the same guards as ours."""

from __future__ import annotations

import argparse
import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detr_d2.checkpoint import PUBLISHED_WEIGHTS, DetrCheckpointer, load_model, read_weights
from detr_d2.data import register
from detr_d2.errors import WeightsError
from detr_d2.meta_arch import DetrPanoptic
from tests.checkpoint.test_checkpoint_published import COCO, MASKS, TINY, TINY_RESNET, _write, published_shapes

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

Config = Callable[..., CfgNode]


@pytest.fixture
def other_order(tiny_config: Config, yard_folder: Path, tmp_path: Path) -> Config:
    """Makes configs of the same classes in another order: the JSON's list is turned round."""
    content = json.loads((yard_folder / "panoptic_val.json").read_text())
    content["categories"].reverse()
    (tmp_path / "turned.json").write_text(json.dumps(content))
    name = f"turned_{abs(hash(str(tmp_path)))}"
    places = {"images": yard_folder / "images", "panoptic_root": yard_folder / "panoptic"}
    register(name, panoptic_json=tmp_path / "turned.json", **places)
    return lambda *overrides: tiny_config("DATASETS.TRAIN", "()", "DATASETS.TEST", f"('{name}',)", *overrides)


def read_raw(path: str) -> dict[str, torch.Tensor]:
    """The tensors of a published file, under its names."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)["model"]


def saved_by(checkpointer: type, model: nn.Module, folder: Path) -> str:
    checkpointer(model, str(folder)).save("weights")
    return str(folder / "weights.pth")


@pytest.mark.parametrize("checkpointer", [DetrCheckpointer, DetectionCheckpointer])
def test_classes_in_another_order_are_refused_for_use(
    checkpointer: type, tiny_config: Config, other_order: Config, tmp_path: Path
) -> None:
    path = saved_by(checkpointer, build_model(tiny_config()), tmp_path)

    with pytest.raises(WeightsError, match="other categories than the dataset's: class 0 is"):
        DefaultPredictor(other_order("MODEL.WEIGHTS", path))


def test_classes_in_another_order_find_their_rows_where_the_model_is_trained_further(
    tiny_config: Config, other_order: Config, tmp_path: Path
) -> None:
    theirs = build_model(tiny_config())
    path = saved_by(DetectionCheckpointer, theirs, tmp_path)
    ours = build_model(other_order()).train()

    DetectionCheckpointer(ours).load(path)

    rows = {category.name: row for category, row in zip(ours.categories, ours.detr.class_embed.weight)}
    for category, row in zip(theirs.categories, theirs.detr.class_embed.weight):
        assert torch.equal(rows[category.name], row)


def test_plain_loading_is_guarded_as_well(tiny_config: Config, other_order: Config, tmp_path: Path) -> None:
    path = saved_by(DetrCheckpointer, build_model(tiny_config()), tmp_path)

    with pytest.raises(WeightsError, match="other categories"):
        build_model(other_order()).eval().load_state_dict(torch.load(path, weights_only=True)["model"])


def test_wrapped_model_is_guarded_as_well(tiny_config: Config, other_order: Config) -> None:
    wrapped = nn.Sequential(build_model(other_order())).eval()

    with pytest.raises(WeightsError, match="other categories"):
        wrapped.load_state_dict(nn.Sequential(build_model(tiny_config())).state_dict())


def test_state_dict_holds_tensors_alone_and_parameter_names_stay(tiny_config: Config) -> None:
    model = build_model(tiny_config())

    state = model.state_dict()

    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert set(state) <= {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}


def test_checkpoints_without_a_record_and_parts_load_as_before(tiny_config: Config) -> None:
    model, other = build_model(tiny_config()), build_model(tiny_config()).eval()
    plain = dict(model.state_dict())
    head = {name: value for name, value in plain.items() if "class_embed" in name}

    other.load_state_dict(plain)
    missing = other.load_state_dict(head, strict=False).missing_keys

    assert torch.equal(other.detr.class_embed.weight, model.detr.class_embed.weight)
    assert set(missing) == {n for n in plain if n not in head and not n.endswith("num_batches_tracked")}
    assert set(other.load_state_dict({}, strict=False).missing_keys) == set(missing) | set(head)


def test_copies_of_a_model_are_guarded_too(tiny_config: Config, other_order: Config) -> None:
    state = build_model(tiny_config()).state_dict()

    with pytest.raises(WeightsError, match="other categories"):
        copy.deepcopy(build_model(other_order()).eval()).load_state_dict(state)


def test_weights_trained_with_detectron2s_checkpointer_say_what_they_are(tiny_config: Config, tmp_path: Path) -> None:
    model = build_model(tiny_config())
    path = saved_by(DetectionCheckpointer, model, tmp_path)

    loaded, _ = load_model(path)

    assert [category.name for category in loaded.categories] == [category.name for category in model.categories]
    assert read_weights(path).record["config"]["MODEL.DETR.HIDDEN_DIM"] == 32


def test_stage_1_weights_are_no_panoptic_model(tiny_config: Config, tmp_path: Path) -> None:
    path = saved_by(DetectionCheckpointer, build_model(tiny_config()), tmp_path)

    with pytest.raises(WeightsError, match="seems to be of stage 1"):
        DefaultPredictor(tiny_config("MODEL.DETR.MASK_ON", True, "MODEL.WEIGHTS", path))


def test_published_names_are_understood_by_plain_loading(tiny_config: Config, tmp_path: Path) -> None:
    path = _write(published_shapes(251, heads=4, size=TINY), tmp_path / "panoptic.pth")
    weights = read_raw(path)
    cfg = tiny_config(*COCO, *MASKS, *TINY_RESNET)
    expected, found = build_model(cfg), build_model(cfg).eval()
    DetrCheckpointer(expected).load(path)

    found.load_state_dict(weights)

    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


def test_short_name_works_in_detectron2s_predictor(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(published_shapes(251, heads=4, size=TINY), tmp_path / "detr-r50-panoptic-00ce5173.pth")
    monkeypatch.setitem(PUBLISHED_WEIGHTS, "detr-r50-panoptic", path)
    cfg = tiny_config(*COCO, *MASKS, *TINY_RESNET)
    expected = build_model(cfg)
    DetrCheckpointer(expected).load(path)

    for _ in range(2):  # the second time from what the first has kept
        predictor = DefaultPredictor(tiny_config(*COCO, *MASKS, *TINY_RESNET, "MODEL.WEIGHTS", "detr-r50-panoptic"))

        for name, value in expected.state_dict().items():
            assert torch.equal(predictor.model.state_dict()[name], value), name
    result = predictor(np.asarray(Image.new("RGB", (64, 48))))
    assert result["panoptic_seg"][0].shape == (48, 64)


def test_published_file_whose_head_detectron2_cuts_off_says_what_to_do(tiny_config: Config, tmp_path: Path) -> None:
    path = _write(published_shapes(251, heads=4, size=TINY), tmp_path / "panoptic.pth")
    torch.save({"model": read_raw(path)}, path)

    with pytest.raises(WeightsError, match=r"leaves out what has another shape.*detr-d2 convert-weights"):
        DefaultPredictor(tiny_config(*COCO, *MASKS, *TINY_RESNET, "MODEL.WEIGHTS", path))


def test_file_named_as_the_published_one_is_itself(tiny_config: Config, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    model = build_model(tiny_config())
    DetectionCheckpointer(model, ".").save("detr-r50-panoptic-mine")

    predictor = DefaultPredictor(tiny_config("MODEL.WEIGHTS", "detr-r50-panoptic-mine.pth"))

    assert torch.equal(predictor.model.detr.class_embed.weight, model.detr.class_embed.weight)


@pytest.mark.parametrize("is_training", [True, False])
def test_weights_of_no_known_names_never_leave_a_random_model(
    is_training: bool, tiny_config: Config, tmp_path: Path
) -> None:
    torch.save({"model": {"conv.weight": torch.zeros(3)}}, tmp_path / "foreign.pth")

    with pytest.raises(WeightsError, match="of no program that is known here"):
        DetectionCheckpointer(build_model(tiny_config()).train(is_training)).load(str(tmp_path / "foreign.pth"))


def test_torchvision_backbone_is_taken_by_detectron2s_checkpointer(tiny_config: Config, tmp_path: Path) -> None:
    model = build_model(tiny_config())
    names = {
        n.removeprefix("detr.backbone."): v for n, v in model.state_dict().items() if n.startswith("detr.backbone.")
    }
    names = {_as_torchvision(name): torch.rand(value.shape).to(value) for name, value in names.items()}
    torch.save(names, tmp_path / "resnet.pth")

    DetectionCheckpointer(model).load(str(tmp_path / "resnet.pth"))

    assert torch.equal(model.detr.backbone.stem.conv1.weight, names["conv1.weight"])
    assert torch.equal(model.detr.backbone.res5[0].conv2.weight, names["layer4.0.conv2.weight"])


def _as_torchvision(name: str) -> str:
    for ours, theirs in (
        ("stem.conv1.norm", "bn1"),
        ("stem.", ""),
        *((f"res{stage + 1}.", f"layer{stage}.") for stage in (1, 2, 3, 4)),
        ("shortcut.norm", "downsample.1"),
        ("shortcut", "downsample.0"),
        *((f"conv{number}.norm", f"bn{number}") for number in (1, 2, 3)),
    ):
        name = name.replace(ours, theirs)
    return name


def test_detectron2s_training_goes_on_from_its_own_checkpoint(
    tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = build_model(tiny_config())
    path = saved_by(DetectionCheckpointer, model, tmp_path)
    again = build_model(tiny_config()).train()

    with caplog.at_level(logging.WARNING):
        DetectionCheckpointer(again).load(path)

    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
    assert "not found in the checkpoint" not in caplog.text


def test_model_of_another_network_is_refused(tiny_config: Config, tmp_path: Path) -> None:
    """Four heads instead of two have weights of the same shapes: nothing but the record can tell."""
    model: DetrPanoptic = build_model(tiny_config())
    path = saved_by(DetectionCheckpointer, model, tmp_path)

    with pytest.raises(WeightsError, match=r"MODEL\.DETR\.NHEADS is 2. Set MODEL\.DETR\.NHEADS 4"):
        DetectionCheckpointer(build_model(tiny_config("MODEL.DETR.NHEADS", 2))).load(path)
