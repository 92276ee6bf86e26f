"""``detr-d2 weights``, ``detr-d2 convert-weights``, and a model from its file alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from detr_d2 import cli
from detr_d2.checkpoint import DetrCheckpointer, load_model
from detr_d2.data import dataset_metadata
from detr_d2.errors import MissingFileError, WeightsError
from detr_d2.prediction import DetrPredictor

from detectron2.modeling import build_model

MASKS = ("MODEL.DETR.MASK_ON", True)


@pytest.fixture
def checkpoint(tiny_config, tmp_path) -> str:
    cfg = tiny_config(*MASKS, "MODEL.DETR.SCORE_THRESHOLD", 0.3, "INPUT.MIN_SIZE_TEST", 96)
    DetrCheckpointer(build_model(cfg), str(tmp_path)).save("model", iteration=7)
    return str(tmp_path / "model.pth")


def test_model_loads_with_no_dataset_registered(checkpoint, tiny_config):
    model, cfg = load_model(checkpoint, ["MODEL.DEVICE", "cpu"])

    saved = torch.load(checkpoint, weights_only=True)["model"]
    torch.testing.assert_close(dict(model.state_dict()), saved, atol=0, rtol=0)
    assert not model.training
    assert (cfg.MODEL.DETR.SCORE_THRESHOLD, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.FORMAT) == (0.3, 96, "RGB")
    metadata = dataset_metadata(cfg.DATASETS.TEST[0])
    assert metadata.stuff_classes == [category.name for category in model.categories]
    assert cfg.DATASETS.TEST[0].startswith("checkpoint_") and not cfg.DATASETS.TRAIN


def test_predictor_takes_the_config_of_a_checkpoint(checkpoint):
    _, cfg = load_model(checkpoint, ["MODEL.DEVICE", "cpu"])

    result = DetrPredictor(cfg)(np.zeros((60, 80, 3), np.uint8))

    assert result["panoptic_seg"][0].shape == (60, 80)


def test_checkpoint_of_stage_2_loads_for_use(tiny_config, tmp_path):
    cfg = tiny_config(*MASKS, "MODEL.DETR.FREEZE_DETECTOR", True)
    DetrCheckpointer(build_model(cfg), str(tmp_path)).save("stage2")

    model, _ = load_model(str(tmp_path / "stage2.pth"), ["MODEL.DEVICE", "cpu"])

    assert not model.freeze_detector


def test_weights_command_says_what_a_checkpoint_is(checkpoint, capsys):
    assert cli.main(["weights", checkpoint]) == 0
    text = capsys.readouterr().out
    assert cli.main(["weights", checkpoint, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)

    assert "boxes and masks" in text and "ResNet-50, res5 dilated (DC5)" in text and "after iteration 7" in text
    assert "11 outputs, no-object last; 6 things and 4 stuff classes" in text and "sky, ground" in text
    expected = {"origin": "detr_d2", "kind": "panoptic", "queries": 12, "hidden_dim": 32, "heads": 4, "format": "RGB"}
    assert expected.items() <= data.items()
    assert (data["encoder_layers"], data["decoder_layers"], data["dilated"]) == (1, 2, True)
    assert data["classes"][-4:] == ["sky", "ground", "building", "plant"]


def test_converted_weights_are_the_same_model(checkpoint, tmp_path, capsys):
    out = str(tmp_path / "converted.pth")

    assert cli.main(["convert-weights", checkpoint, out]) == 0

    assert "10 classes, from detr_d2" in capsys.readouterr().out
    before, _ = load_model(checkpoint, ["MODEL.DEVICE", "cpu"])
    after, _ = load_model(out, ["MODEL.DEVICE", "cpu"])
    torch.testing.assert_close(after.state_dict(), before.state_dict(), atol=0, rtol=0)
    assert after.categories == before.categories and after.recipe == before.recipe


def test_converting_replaces_nothing_unasked_and_leaves_nothing_half(checkpoint, tmp_path):
    out = tmp_path / "there.pth"
    out.write_text("precious")

    with pytest.raises(WeightsError, match="--force"):
        cli.main(["convert-weights", checkpoint, str(out)])
    assert out.read_text() == "precious"
    with pytest.raises(MissingFileError, match="folder"):
        cli.main(["convert-weights", checkpoint, str(tmp_path / "nowhere" / "x.pth")])
    assert cli.main(["convert-weights", checkpoint, str(out), "--force"]) == 0
    assert sorted(path.name for path in tmp_path.glob("there*")) == ["there.pth"]


def test_backbone_converts_and_loads_as_one(tiny_config, tmp_path):
    source = build_model(tiny_config()).detr.backbone.state_dict()
    torch.save({"model": dict(source)}, tmp_path / "backbone.pth")

    assert cli.main(["convert-weights", str(tmp_path / "backbone.pth"), str(tmp_path / "out.pth")]) == 0

    model = build_model(tiny_config())
    DetrCheckpointer(model, fine_tune=True).load(str(tmp_path / "out.pth"))
    torch.testing.assert_close(dict(model.detr.backbone.state_dict()), dict(source), atol=0, rtol=0)
    with pytest.raises(WeightsError, match="no class head"):
        load_model(str(tmp_path / "out.pth"))
