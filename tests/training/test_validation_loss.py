"""The validation loss: the criterion's, over all pictures, whatever the batches and processes."""

from __future__ import annotations

import math

import pytest
import torch

from detr_d2.data import categories_of, register_from_config
from detr_d2.errors import MissingFileError
from detr_d2.training.validation_loss import TruthMapper, ValidationLossEvaluator

from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from detectron2.utils import comm

MASKS = ("MODEL.DETR.MASK_ON", True)


@pytest.fixture
def record(tiny_config) -> dict:
    """The first picture of yard_val."""
    register_from_config(tiny_config())
    return DatasetCatalog.get("yard_val")[0]


@pytest.fixture
def model_and_inputs(tiny_config):
    """A joint model and yard_val's pictures with their truth."""
    cfg = tiny_config(*MASKS, "MODEL.DETR.DROPOUT", 0.5)
    register_from_config(cfg)
    mapper = TruthMapper(cfg)
    inputs = [mapper(record) for record in DatasetCatalog.get("yard_val")]
    return build_model(cfg).eval(), inputs


def _validate(model, batches) -> dict[str, float]:
    evaluator = ValidationLossEvaluator()
    with torch.no_grad():
        for batch in batches:
            evaluator.process(batch, model(batch))
    return evaluator.evaluate()["validation"]


def test_validation_loss_is_that_of_one_batch_of_all_pictures(model_and_inputs):
    model, inputs = model_and_inputs

    found = _validate(model, [[picture] for picture in inputs])

    for module in model.modules():  # the training's own losses, without what training leaves to chance
        module.training = isinstance(module, type(model))
    with torch.no_grad():
        losses = model(inputs)
    assert found["total_loss"] == pytest.approx(sum(losses.values()).item(), rel=1e-4)
    for name, value in losses.items():
        assert found[name.removeprefix("loss_")] == pytest.approx(value.item(), rel=1e-4), name
    assert 0 <= found["class_error"] <= 100 and found["cardinality_error"] >= 0


def test_validation_loss_does_not_depend_on_batches(model_and_inputs):
    model, inputs = model_and_inputs

    together, alone = _validate(model, [inputs]), _validate(model, [[picture] for picture in inputs])

    assert together == pytest.approx(alone, rel=1e-5)


def test_frozen_detector_has_the_mask_losses_only(tiny_config, record):
    cfg = tiny_config(*MASKS, "MODEL.DETR.FREEZE_DETECTOR", True)
    picture = TruthMapper(cfg)(record)

    found = _validate(build_model(cfg).eval(), [[picture]])

    assert set(found) == {"total_loss", "mask", "dice", "class_error", "cardinality_error"}


def test_processes_add_up(monkeypatch):
    first, second = ValidationLossEvaluator(), ValidationLossEvaluator()
    first.process([{}], [{"losses": {"loss_ce": (1.0, 3.0), "class_error": (50.0, 2.0)}}])
    second.process([{}] * 2, [{"losses": {"loss_ce": (5.0, 1.0), "class_error": (0.0, 0.0)}}] * 2)
    parts: list = []

    def gather(part):
        parts.append(part)
        return parts

    monkeypatch.setattr(comm, "gather", gather)
    second.evaluate()
    found = first.evaluate()

    assert found == {"validation": {"total_loss": 2.6, "ce": 2.6, "class_error": 50.0}}


def test_other_processes_say_nothing(monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)

    assert ValidationLossEvaluator().evaluate() is None


def test_memory_does_not_grow_with_the_pictures():
    evaluator = ValidationLossEvaluator()
    for number in range(1000):
        evaluator.process([{}], [{"losses": {"loss_ce": (float(number), 1.0)}}])

    assert len(evaluator._sums) == len(evaluator._shares) == 1
    assert evaluator.evaluate()["validation"]["ce"] == 499.5


def test_pictures_without_segments_leave_box_losses_open(tiny_config, record):
    cfg = tiny_config()
    picture = TruthMapper(cfg)(record)
    picture["instances"] = picture["instances"][torch.zeros(0, dtype=torch.int64)]

    found = _validate(build_model(cfg).eval(), [[picture]])

    assert math.isnan(found["bbox"]) and math.isnan(found["class_error"])
    assert found["total_loss"] == pytest.approx(found["ce"] + found["ce_0"])


def test_truth_is_not_augmented(tiny_config, record):
    cfg = tiny_config(*MASKS, "INPUT.DETR_CROP.ENABLED", True, "INPUT.DETR_CROP.PROB", 1.0)
    mapper = TruthMapper(cfg)

    first, second = mapper(record), mapper(record)

    torch.testing.assert_close(first["image"], second["image"])
    torch.testing.assert_close(first["instances"].gt_masks.tensor, second["instances"].gt_masks.tensor)
    assert len(first["instances"]) == len(record["segments_info"])
    assert set(first["instances"].gt_classes.tolist()) <= set(range(len(categories_of("yard_val"))))


def test_truth_that_contradicts_itself_is_left_to_the_evaluators(tiny_config, record, caplog):
    cfg = tiny_config()
    wrong = record | {"segments_info": [{**record["segments_info"][0], "id": 7}]}

    picture = TruthMapper(cfg)(wrong)
    model = build_model(cfg).eval()
    evaluator = ValidationLossEvaluator()
    with torch.no_grad():
        evaluator.process([picture], model([picture]))

    assert "instances" not in picture and picture["image"].shape[0] == 3
    assert evaluator.evaluate() == {}
    assert "truth of 1 pictures can't be used" in caplog.text


def test_missing_picture_is_an_error(tiny_config, record):
    with pytest.raises(MissingFileError):
        TruthMapper(tiny_config())(record | {"file_name": "no/such.jpg"})
