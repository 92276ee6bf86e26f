"""Whole trainings of a very small model: what they leave behind, stop for, and go on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detr_d2.data import register_from_config
from detr_d2.errors import ConfigError
from detr_d2.training.evaluators import training_evaluators
from detr_d2.training.model_selection import EarlyStop
from detr_d2.training.setup import add_training_hooks, check_training
from tests.modules import load_module

from detectron2.engine import hooks
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.utils.events import EventStorage


class Told(DatasetEvaluator):
    """Says that quality is what the test wants it to be, one number after the other."""

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers

    def process(self, inputs, outputs) -> None: ...

    def evaluate(self):
        return {"quality": {"PQ": self.numbers.pop(0)}}


@pytest.fixture
def trainer_class(project_folder):
    """The Trainer of train_net.py, whose evaluations are made up: ``trainer_class([1.0, 2.0, …])``."""
    module = load_module(project_folder / "train_net.py")

    def make(numbers: list[float]):
        class Trainer(module.Trainer):
            @classmethod
            def build_evaluator(cls, cfg, dataset_name, output_folder=None):
                return DatasetEvaluators([Told(numbers), *training_evaluators(cfg, dataset_name)])

        return Trainer

    return make


@pytest.fixture
def config(tiny_config):
    """A training of up to ten iterations that evaluates after every second one."""

    def make(*overrides: object):
        keys = ("SOLVER.MAX_ITER", 10, "TEST.EVAL_PERIOD", 2, "TEST.BEST_CHECKPOINT.METRIC", "quality/PQ")
        cfg = tiny_config(
            *keys, "SOLVER.CHECKPOINT_PERIOD", 100, "SOLVER.IMS_PER_BATCH", 1, "TEST.SCENES", 0, *overrides
        )
        register_from_config(cfg)
        return cfg

    return make


def _iterations(cfg) -> list[int]:
    lines = (Path(cfg.OUTPUT_DIR) / "evaluations.jsonl").read_text().splitlines()
    return [json.loads(line)["iteration"] for line in lines]


def _load(cfg, name: str) -> dict:
    return torch.load(Path(cfg.OUTPUT_DIR) / f"{name}.pth", weights_only=True)


PATIENCE = ("TEST.EARLY_STOPPING.METRIC", "quality/PQ", "TEST.EARLY_STOPPING.PATIENCE")


def test_training_keeps_the_best_and_writes_a_line_for_each_evaluation(config, trainer_class):
    cfg = config()

    trainer_class([1.0, 3.0, float("nan"), 2.0, 2.5])(cfg).train()

    assert _iterations(cfg) == [1, 3, 5, 7, 10]
    best = _load(cfg, "model_best")
    assert best["iteration"] == 3 and set(best) == {"model", "detr_d2", "iteration"}
    assert (Path(cfg.OUTPUT_DIR) / "last_checkpoint").read_text() == "model_final.pth"
    assert not list(Path(cfg.OUTPUT_DIR).glob("*.part*"))
    logged = [json.loads(line) for line in (Path(cfg.OUTPUT_DIR) / "metrics.json").read_text().splitlines()]
    assert {"validation/total_loss", "validation/ce_0", "validation/class_error"} <= set().union(*logged)


def test_training_stops_early_with_its_last_checkpoint_and_goes_on_when_resumed(config, trainer_class):
    cfg = config(*PATIENCE, 2)

    trainer = trainer_class([3.0, 1.0, 2.0])(cfg)
    results = trainer.train()

    assert results["quality"] == {"PQ": 2.0} and _iterations(cfg) == [1, 3, 5]
    assert _load(cfg, "model_final")["iteration"] == 5 and _load(cfg, "model_best")["iteration"] == 1
    torch.testing.assert_close(_load(cfg, "model_final")["model"], trainer.model.state_dict())

    cfg.merge_from_list(["TEST.EARLY_STOPPING.PATIENCE", 3])
    resumed = trainer_class([2.9, 9.0, 9.0])(cfg)
    resumed.resume_or_load(resume=True)
    resumed.train()

    assert resumed.start_iter == 6 and _iterations(cfg) == [1, 3, 5, 7]
    assert _load(cfg, "model_final")["iteration"] == 7 and _load(cfg, "model_best")["iteration"] == 1


def test_resumed_training_keeps_a_better_model_of_before(config, trainer_class):
    cfg = config("SOLVER.MAX_ITER", 4)
    trainer_class([5.0, 4.0])(cfg).train()
    cfg.merge_from_list(["SOLVER.MAX_ITER", 8])

    resumed = trainer_class([4.5, 6.0])(cfg)
    resumed.resume_or_load(resume=True)
    resumed.train()

    assert _iterations(cfg) == [1, 4, 5, 8]
    assert _load(cfg, "model_best")["iteration"] == 8


def test_training_that_improves_runs_to_its_end(config, trainer_class):
    cfg = config(*PATIENCE, 1)

    assert trainer_class([1.0, 2.0, 3.0, 4.0, 1.0])(cfg).train() is None

    assert _iterations(cfg) == [1, 3, 5, 7, 10]


def test_early_stop_verifies_expected_results(config, trainer_class):
    cfg = config(*PATIENCE, 1, "TEST.EXPECTED_RESULTS", [["quality", "PQ", 7.0, 0.1]])

    with pytest.raises(SystemExit):
        trainer_class([1.0, 1.0])(cfg).train()


def test_metric_that_no_evaluation_has_is_said(config, trainer_class, caplog):
    cfg = config("TEST.EARLY_STOPPING.METRIC", "quality/PK", "TEST.EARLY_STOPPING.PATIENCE", 1)

    trainer_class([1.0] * 5)(cfg).train()

    assert "TEST.EARLY_STOPPING.METRIC is 'quality/PK'" in caplog.text and "It has quality/PQ" in caplog.text


def test_scenes_are_drawn_for_tensorboard_from_the_same_images_each_time(config, trainer_class):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    cfg = config("SOLVER.MAX_ITER", 4, "TEST.SCENES", 2)

    trainer_class([1.0, 2.0])(cfg).train()

    found = events.EventAccumulator(cfg.OUTPUT_DIR, {"images": 0})
    found.Reload()
    assert found.Tags()["images"] == ["yard_val/00 (image 1)", "yard_val/01 (image 3)"]
    shown = found.Images("yard_val/00 (image 1)")
    assert [image.step for image in shown] == [1, 4] and shown[0].width > 3 * 160


def test_early_stop_is_no_exception_that_a_training_reports():
    assert not issubclass(EarlyStop, Exception)


@pytest.mark.parametrize(("iterations", "is_warned"), [(19, True), (20, True), (21, False)])
def test_patience_that_a_training_is_too_short_for_is_warned_of(config, caplog, iterations, is_warned):
    keys = ("TEST.EARLY_STOPPING.PATIENCE", 1, "TEST.EVAL_PERIOD", 10, "SOLVER.MAX_ITER", iterations)

    check_training(config(*keys))

    assert ("TEST.EARLY_STOPPING can't act" in caplog.text) == is_warned


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("TEST.EARLY_STOPPING.PATIENCE", 2, "TEST.EVAL_PERIOD", 0), "nothing would ever stop"),
        (("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 0), "INPUT.LSJ"),
        (("INPUT.MASK_STRIDE", 0), "INPUT.MASK_STRIDE is 0"),
        (("INPUT.RICAP.ENABLED", True, "INPUT.RICAP.PROB", 1.5), "INPUT.RICAP.PROB is 1.5"),
        (("TEST.EARLY_STOPPING.PATIENCE", 2, "DATASETS.TEST", ()), "nothing would ever stop"),
        (("TEST.EARLY_STOPPING.PATIENCE", 2, "TEST.EARLY_STOPPING.METRIC", ""), "nothing would ever stop"),
        (("TEST.EARLY_STOPPING.PATIENCE", -1), "PATIENCE is -1"),
        (("TEST.EARLY_STOPPING.MIN_DELTA", -0.5), "MIN_DELTA is -0.5"),
        (("TEST.BEST_CHECKPOINT.MODE", "best"), "MODE is 'best'"),
    ],
)
def test_keys_that_make_no_sense_are_refused(config, overrides, message):
    with pytest.raises(ConfigError, match=message):
        check_training(config(*overrides))


def test_hooks_come_between_evaluation_and_writers(config):
    built = [hooks.EvalHook(2, dict), hooks.PeriodicWriter([])]

    found = add_training_hooks(built, config(*PATIENCE, 1), torch.nn.Linear(1, 1))

    names = [type(hook).__name__ for hook in found]
    added = ["BestCheckpoint", "EvaluationLog", "EarlyStopping", "MissedEvaluation"]
    assert names == ["EvalHook", *added, "PeriodicWriter"]


def test_without_test_sets_there_is_nothing_to_add(config):
    built = [hooks.EvalHook(2, dict)]

    assert add_training_hooks(built, config("DATASETS.TEST", ()), torch.nn.Linear(1, 1)) == built


def test_evaluation_without_training_draws_no_scenes(config):
    outside = training_evaluators(config("TEST.SCENES", 2), "yard_val")
    with EventStorage():
        inside = training_evaluators(config("TEST.SCENES", 2), "yard_val")

    assert outside == [] and len(inside) == 1
