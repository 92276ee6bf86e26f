"""The validation loss: the criterion's, over all images, whatever the batches and processes."""

from __future__ import annotations

import math

import pytest
import torch

from detr_d2.data import categories_of, register, register_from_config
from detr_d2.errors import MissingFileError
from detr_d2.modeling.criterion import sum_of
from detr_d2.training.evaluators import (
    GroundTruthMapper,
    MeanLosses,
    ValidatedModel,
    ValidationEvaluator,
    with_validation_loss,
)

from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils import comm

MASKS = ("MODEL.DETR.MASK_ON", True)


@pytest.fixture
def record(tiny_config) -> dict:
    """The first image of yard_val."""
    register_from_config(tiny_config())
    return DatasetCatalog.get("yard_val")[0]


@pytest.fixture
def model_and_inputs(tiny_config):
    """A joint model and yard_val's images with their ground truth."""
    cfg = tiny_config(*MASKS, "MODEL.DETR.DROPOUT", 0.5)
    register_from_config(cfg)
    mapper = GroundTruthMapper(cfg)
    inputs = [mapper(record) for record in DatasetCatalog.get("yard_val")]
    return build_model(cfg).eval(), inputs


class Kept(DatasetEvaluator):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.outputs: list = []

    def process(self, inputs, outputs) -> None:
        self.outputs += outputs

    def evaluate(self) -> dict:
        return {"kept": {"number": len(self.outputs)}}


def _validate(model, batches) -> dict[str, float]:
    losses = MeanLosses()
    for batch in batches:
        losses.add(batch, model.validate(batch)[1])
    return losses.means()


def test_validation_loss_is_that_of_one_batch_of_all_images(model_and_inputs):
    model, inputs = model_and_inputs

    found = _validate(model, [[image] for image in inputs])

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

    together, alone = _validate(model, [inputs]), _validate(model, [[image] for image in inputs])

    assert together == pytest.approx(alone, rel=1e-5)


def test_frozen_detector_has_the_mask_losses_only(tiny_config, record):
    cfg = tiny_config(*MASKS, "MODEL.DETR.FREEZE_DETECTOR", True)
    image = GroundTruthMapper(cfg)(record)

    found = _validate(build_model(cfg).eval(), [[image]])

    assert set(found) == {"total_loss", "mask", "dice", "class_error", "cardinality_error"}


def _sums(**totals_and_counts: tuple[float, float]) -> dict:
    return {name: sum_of(torch.tensor(total), count) for name, (total, count) in totals_and_counts.items()}


def test_processes_add_up(monkeypatch):
    first, second = MeanLosses(), MeanLosses()
    first.add([{"instances": None}], _sums(loss_ce=(3.0, 3.0), class_error=(100.0, 2.0)))
    for _ in range(2):
        second.add([{"instances": None}], _sums(loss_ce=(5.0, 1.0), class_error=(0.0, 0.0)))
    parts: list = []

    def gather(part):
        parts.append(part)
        return parts

    monkeypatch.setattr(comm, "gather", gather)
    second.means()
    found = first.means()

    assert found == {"total_loss": 2.6, "ce": 2.6, "class_error": 50.0}


def test_other_processes_say_nothing(monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)

    losses = MeanLosses()
    losses.add([{"instances": None}], _sums(loss_ce=(3.0, 3.0)))

    assert losses.means() == {} and ValidationEvaluator(DatasetEvaluator()).evaluate() == {}


def test_memory_does_not_grow_with_the_images():
    losses = MeanLosses()
    for number in range(1000):
        losses.add([{"instances": None}], _sums(loss_ce=(float(number), 1.0)))

    assert len(losses._totals) == len(losses._counts) == 1
    assert losses.means()["ce"] == 499.5


def test_images_without_segments_leave_box_losses_open(tiny_config, record):
    cfg = tiny_config()
    image = GroundTruthMapper(cfg)(record)
    image["instances"] = image["instances"][torch.zeros(0, dtype=torch.int64)]

    found = _validate(build_model(cfg).eval(), [[image]])

    assert math.isnan(found["bbox"]) and math.isnan(found["class_error"])
    assert found["total_loss"] == pytest.approx(found["ce"] + found["ce_0"])


def test_ground_truth_is_not_augmented(tiny_config, record):
    cfg = tiny_config(*MASKS, "INPUT.DETR_CROP.ENABLED", True, "INPUT.DETR_CROP.PROB", 1.0)
    mapper = GroundTruthMapper(cfg)

    first, second = mapper(record), mapper(record)

    torch.testing.assert_close(first["image"], second["image"])
    torch.testing.assert_close(first["instances"].gt_masks.tensor, second["instances"].gt_masks.tensor)
    assert len(first["instances"]) == len(record["segments_info"])
    assert set(first["instances"].gt_classes.tolist()) <= set(range(len(categories_of("yard_val"))))


def test_ground_truth_that_contradicts_itself_is_left_to_the_evaluators(tiny_config, record, caplog):
    cfg = tiny_config()
    wrong = record | {"segments_info": [{**record["segments_info"][0], "id": 7}]}

    image = GroundTruthMapper(cfg)(wrong)
    results, sums = build_model(cfg).eval().validate([image])
    losses = MeanLosses()
    losses.add([image], sums)

    assert "instances" not in image and image["image"].shape[0] == 3 and len(results) == 1
    assert losses.means() == {}
    assert "ground truth of 1 images can't be used" in caplog.text


def test_images_without_ground_truth_leave_the_others_losses_as_they_are(model_and_inputs):
    model, inputs = model_and_inputs
    without = {name: value for name, value in inputs[0].items() if name != "instances"}

    results, sums = model.validate([without, *inputs[1:]])

    expected = _validate(model, [inputs[1:]])
    losses = MeanLosses()
    losses.add(inputs[1:], sums)
    assert len(results) == len(inputs)
    assert losses.means() == pytest.approx(expected, rel=1e-5)


def test_results_are_those_of_the_forward_pass_and_hold_no_losses(model_and_inputs):
    model, inputs = model_and_inputs
    with torch.no_grad():
        torch.nn.init.normal_(model.detr.class_embed.weight, std=1.5)
        model.postprocess.score_threshold = 0.3
        expected = model(inputs)

        results, _ = model.validate(inputs)

    for found, wanted in zip(results, expected, strict=True):
        assert set(found) == set(wanted) == {"instances", "panoptic_seg"}
        assert len(wanted["panoptic_seg"][1]) > 0
        assert torch.equal(found["panoptic_seg"][0], wanted["panoptic_seg"][0])
        assert torch.equal(found["instances"].pred_masks, wanted["instances"].pred_masks)


def test_no_mask_is_computed_twice_and_there_is_one_forward_pass(model_and_inputs):
    model, inputs = model_and_inputs
    model.postprocess.score_threshold, model.postprocess.instance_score_threshold = 0.0, 0.0
    passes, masks = [], []
    model.detr.register_forward_hook(lambda *_: passes.append(1))
    model.mask_head.register_forward_hook(lambda _module, _inputs, output: masks.append(len(output)))

    model.validate(inputs[:1])

    assert len(passes) == 1
    assert 0 < sum(masks) <= model.detr.query_embed.num_embeddings


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_evaluators_get_results_and_losses_stand_beside_theirs(model_and_inputs, is_wrapped):
    model, inputs = model_and_inputs
    batches, kept = [[image] for image in inputs], Kept()
    outer = torch.nn.Module()
    outer.module = model
    validated = ValidatedModel(outer if is_wrapped else model).train()

    results = inference_on_dataset(validated, batches, ValidationEvaluator(kept))

    assert results["kept"] == {"number": len(inputs)} and "instances" in kept.outputs[0]
    assert results["validation"] == pytest.approx(_validate(model.eval(), batches), rel=1e-6)
    assert validated.training


def test_only_datasets_with_ground_truth_have_losses(tiny_config, model_and_inputs, yard_folder, caplog):
    model, inputs = model_and_inputs
    register("things_only", images=yard_folder / "images", instances_json=yard_folder / "instances_val.json")
    plain = [{name: value for name, value in image.items() if name != "instances"} for image in inputs]
    cfg = tiny_config(*MASKS)
    evaluators = {"yard_val": Kept(), "things_only": Kept()}

    validated, [known, unknown] = with_validation_loss(cfg, model, evaluators)

    assert "validation" in inference_on_dataset(validated, [inputs], known)
    assert set(inference_on_dataset(validated, [plain], unknown)) == {"kept"}
    assert "can't be used" not in caplog.text
    cfg.TEST.VALIDATION_LOSS = False
    assert with_validation_loss(cfg, model, evaluators) == (model, list(evaluators.values()))


def test_missing_image_is_an_error(tiny_config, record):
    with pytest.raises(MissingFileError):
        GroundTruthMapper(tiny_config())(record | {"file_name": "no/such.jpg"})
