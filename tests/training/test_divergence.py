"""A step whose losses aren't finite: what is said, what is saved, how it runs again, and how it is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_d2.cli import main
from detr_d2.data import DetrPanopticDatasetMapper, register_from_config
from detr_d2.errors import ConfigError, DivergenceError, WeightsError
from detr_d2.training import saved_step
from detr_d2.training.saved_step import diagnose, norms_by_part, read_step
from tests.modules import load_module

from detectron2.config import CfgNode
from detectron2.engine import HookBase

MASKS = ("MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", False, "DATALOADER.NUM_WORKERS", 0)
Make = Callable[..., Any]


@pytest.fixture
def make_trainer(tiny_config: Callable[..., CfgNode], project_folder: Path) -> Make:
    """Makes train_net.py's trainer of a tiny model with masks, which evaluates nothing."""
    module = load_module(project_folder / "train_net.py")

    def make(*overrides: object) -> Any:
        cfg = tiny_config("DATASETS.TEST", (), "MODEL.DEVICE", "cpu", *MASKS, *overrides)
        register_from_config(cfg)
        return module.Trainer(cfg)

    return make


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets the mapper give images of NaN: ``spoil(4)`` the fifth only, each batch having two."""

    def spoil(*calls: int) -> None:
        give, count = DetrPanopticDatasetMapper.to_example, iter(range(1000))

        def spoiled(self: Any, *arguments: Any) -> dict[str, Any]:
            item = give(self, *arguments)
            return item | {"image": item["image"] * float("nan")} if next(count) in calls else item

        monkeypatch.setattr(DetrPanopticDatasetMapper, "to_example", spoiled)

    return spoil


@pytest.fixture
def failed(make_trainer: Make, tmp_path: Path) -> tuple[Path, str]:
    """The file and the message of a training whose mask losses are NaN in the first step, with dropout."""
    trainer = make_trainer("MODEL.DETR.DROPOUT", 0.3)
    with torch.no_grad():
        trainer.guard._model.mask_head.out_lay.bias.fill_(float("nan"))
    with pytest.raises(DivergenceError) as caught:
        trainer.train()
    return tmp_path / "output" / "diverged" / "iteration_0000000_process_0.pth", str(caught.value)


def test_message_names_iteration_terms_images_module_and_norms(failed: tuple[Path, str]) -> None:
    path, message = failed

    for words in ("at iteration 0: loss_mask is nan, loss_dice is nan. ", "yard_train_", "mask_head.out_lay. "):
        assert words in message, message
    assert "Gradient norms of this step: detr.backbone" in message and "mask_head nan" in message
    assert f"'detr-d2 replay {path}'" in message and path.is_file()


def test_a_saved_step_runs_again_with_the_same_numbers(failed: tuple[Path, str]) -> None:
    model, step = read_step(str(failed[0]), "cpu")

    again = diagnose(model, step.batch, step.random_state, step.autocast)

    assert again.first == step.diagnosis.first == "mask_head.out_lay"
    for name in ("losses", "gradient_norms"):
        then, now = getattr(step.diagnosis, name), getattr(again, name)
        assert {key: str(value) for key, value in then.items()} == {key: str(value) for key, value in now.items()}
    assert again.losses["loss_ce"] > 0 and str(again.losses["loss_mask"]) == "nan"


def test_a_step_of_coarse_masks_runs_again_too(make_trainer: Make, spoil: Callable[..., None], tmp_path: Path) -> None:
    spoil(0)
    trainer = make_trainer("INPUT.MASK_STRIDE", 4)
    with pytest.raises(DivergenceError):
        trainer.train()

    _, step = read_step(str(tmp_path / "output" / "diverged" / "iteration_0000000_process_0.pth"), "cpu")

    for item in step.batch:
        assert 4 * item["instances"].gt_masks.tensor.shape[1] < item["image"].shape[1] + 4


def test_the_command_shows_then_and_now(failed: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(failed[0]), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "loss_dice" in shown and "mask_head.out_lay" in shown and "the same as in the training" in shown

    assert main(["replay", str(failed[0]), "--device", "cpu", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["same"] and content["now"]["losses"]["loss_mask"] == "nan" and len(content["images"]) == 2


def test_another_result_is_said_by_the_exit_code(failed: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    content = torch.load(failed[0], weights_only=True)
    content["model"]["mask_head.out_lay.bias"].zero_()
    torch.save(content, failed[0])

    assert main(["replay", str(failed[0]), "--device", "cpu"]) == 1

    assert "NOT the same" in capsys.readouterr().out


def test_a_device_that_is_not_there_is_one_sentence(failed: tuple[Path, str]) -> None:
    with pytest.raises(ConfigError, match=r"'cuda:99' \(MODEL\.DEVICE\) isn't there"):
        read_step(str(failed[0]), "cuda:99")


def test_a_file_without_a_step_is_refused(make_trainer: Make, tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.checkpointer.save("model")

    with pytest.raises(WeightsError, match="holds no step"):
        read_step(str(tmp_path / "output" / "model.pth"), "cpu")


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no batch": (lambda step: step.update(batch=[]), "no images"),
    "no image": (lambda step: step["batch"][0].pop("image"), "image"),
    "an image of one channel": (lambda step: _set(step, "image", torch.zeros(1, 9, 9)), "shape"),
    "an image of another size": (lambda step: _set(step, "image", torch.zeros(3, 9, 9)), "instances of"),
    "a huge view": (lambda step: _set(step, "image", torch.zeros(1).expand(3, 8000, 8000)), "bytes in the file"),
    "a height of 0": (lambda step: _set(step, "height", 0), "height"),
    "no instances": (lambda step: step["batch"][1].pop("instances"), "instances"),
    "an unknown class": (lambda step: step["batch"][0]["instances"]["gt_classes"].fill_(99), "gt_classes"),
    "sparse boxes": (lambda step: _set_gt(step, "gt_boxes", torch.zeros(1, 4).to_sparse()), "gt_boxes is sparse"),
    "a box too few": (lambda step: _set_gt(step, "gt_boxes", torch.zeros(0, 4)), "length"),
    "masks of another size": (
        lambda step: _set_gt(step, "gt_masks", torch.zeros(1, 2, 2, dtype=torch.bool)),
        "gt_masks",
    ),
    "a loss of text": (lambda step: step["diagnosis"]["losses"].update(loss_ce="x"), "number"),
    "another dtype": (lambda step: step.update(autocast="complex64"), "autocast"),
    "an iteration of text": (lambda step: step.update(iteration="1"), "another type"),
    "another random state": (lambda step: step.update(random_state={"cpu": torch.zeros(3)}), "RNG state"),
    "no process": (lambda step: step.pop("process"), "process"),
}


def _set(step: dict[str, Any], name: str, value: Any) -> None:
    step["batch"][0][name] = value


def _set_gt(step: dict[str, Any], name: str, value: Any) -> None:
    step["batch"][0]["instances"][name] = value


def test_a_damaged_step_is_refused_in_one_sentence(failed: tuple[Path, str], tmp_path: Path) -> None:
    path = tmp_path / "damaged.pth"

    for damage, words in DAMAGE.values():
        content = torch.load(failed[0], weights_only=True)
        damage(content["step"])
        torch.save(content, path)
        with pytest.raises(WeightsError, match=rf"the step in it is damaged \(.*{words}"):
            read_step(str(path), "cpu")


def test_diagnosis_changes_neither_gradients_nor_random_numbers(failed: tuple[Path, str]) -> None:
    model, step = read_step(str(failed[0]), "cpu")
    before = torch.get_rng_state()

    diagnose(model, step.batch, step.random_state, step.autocast)

    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


class Weights(HookBase):
    """Sums of the weights before and after each step, and of the optimizer's steps taken."""

    def __init__(self) -> None:
        self.before: list[float] = []
        self.after: list[float] = []

    def _sum(self) -> float:
        return float(sum(p.detach().double().abs().sum() for p in self.trainer.model.parameters()))

    def before_step(self) -> None:
        self.before.append(self._sum())

    def after_step(self) -> None:
        self.after.append(self._sum())


def test_a_step_that_is_left_out_changes_no_weight_and_is_counted(
    make_trainer: Make, spoil: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(2)
    trainer = make_trainer("SOLVER.MAX_SKIPPED_STEPS", 1, "SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 4)
    trainer.register_hooks([weights := Weights()])

    trainer.train()

    changed = [before != after for before, after in zip(weights.before, weights.after)]
    assert changed == [True, False, True, True]
    saved = torch.load(tmp_path / "output" / "model_final.pth", weights_only=True)
    assert saved["trainer"]["hooks"]["StepGuard"] == {"skipped": 1}
    assert "the 1. of at most 1. The training diverged at iteration 1" in caplog.text
    assert "1 of the training's steps were left out" in caplog.text
    lines = (tmp_path / "output" / "metrics.json").read_text().splitlines()
    assert json.loads(lines[-1])["skipped_steps"] == 1


class SpoilGradient(HookBase):
    """Makes gradients of the mask head NaN in some iterations, in which the losses stay what they are."""

    def __init__(self, *iterations: int) -> None:
        self._iterations = iterations

    def before_train(self) -> None:
        bias = self.trainer.guard._model.mask_head.out_lay.bias
        bias.register_hook(lambda gradient: gradient * float("nan") if self.trainer.iter in self._iterations else None)


def test_gradients_that_are_not_finite_are_named_before_weights_are(
    make_trainer: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer("SOLVER.MAX_ITER", 3)
    trainer.register_hooks([SpoilGradient(1), weights := Weights()])

    with pytest.raises(DivergenceError) as caught:
        trainer.train()

    message = str(caught.value)
    for words in ("at iteration 1: the norm of the gradients is nan, while the losses are finite. ", "yard_train_"):
        assert words in message, message
    assert "mask_head nan" in message and "Images of the batch" in message and "first output" not in message
    assert len(weights.before) == 2 and weights.before[1] == weights._sum()
    path = tmp_path / "output" / "diverged" / "iteration_0000001_process_0.pth"
    assert main(["replay", str(path), "--device", "cpu"]) == 1  # as nothing spoils gradients there
    assert "NOT the same" in capsys.readouterr().out


def test_a_step_whose_gradients_are_not_finite_is_left_out(make_trainer: Make) -> None:
    trainer = make_trainer("SOLVER.MAX_ITER", 3, "SOLVER.MAX_SKIPPED_STEPS", 1)
    trainer.register_hooks([SpoilGradient(1), weights := Weights()])

    trainer.train()

    assert [before != after for before, after in zip(weights.before, weights.after)] == [True, False, True]
    assert all(bool(each.isfinite().all()) for each in trainer.model.parameters())


def test_no_more_steps_are_left_out_than_the_key_says(make_trainer: Make, spoil: Callable[..., None]) -> None:
    spoil(0, 3)
    trainer = make_trainer("SOLVER.MAX_SKIPPED_STEPS", 1, "SOLVER.MAX_ITER", 4)

    with pytest.raises(DivergenceError, match="at iteration 1"):
        trainer.train()


def test_a_resumed_training_counts_on(make_trainer: Make) -> None:
    trainer = make_trainer("SOLVER.MAX_SKIPPED_STEPS", 3)

    assert trainer.guard.state_dict() == {}
    trainer.guard.load_state_dict({"skipped": 2})

    assert trainer.guard.skipped == 2 and trainer.guard.state_dict() == {"skipped": 2}


def test_a_full_disk_does_not_hide_the_divergence(
    make_trainer: Make, spoil: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    spoil(0)
    monkeypatch.setattr(saved_step, "write_checkpoint", full)

    with pytest.raises(DivergenceError, match=r"at iteration 0.*couldn't be saved.*No space left"):
        make_trainer().train()


def test_norms_are_those_of_the_parts_gradients() -> None:
    gradients = {"detr.backbone.a": torch.tensor([3.0]), "detr.backbone.b": torch.tensor([4.0]), "mask_head.c": None}

    assert norms_by_part(gradients) == {"detr.backbone": 5.0}
