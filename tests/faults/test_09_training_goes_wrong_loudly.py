"""Losses and weights that aren't finite, and checkpoints of no use, are named."""

from __future__ import annotations

import json

import pytest
import torch

from detr_d2.errors import DivergenceError
from tests.faults.training import assert_refused
from tests.modules import load_module

DIVERGING = ("SOLVER.CLIP_GRADIENTS.ENABLED", "False", "SOLVER.BASE_LR", "1e9", "SOLVER.WARMUP_ITERS", "0")


# --- the numbers go wild ----------------------------------------------------------------------------------------------


def test_a_diverging_training_names_iteration_losses_and_images(train):
    result = train(*DIVERGING, "SOLVER.MAX_ITER", "6")

    assert_refused(result, r"diverged at iteration \d", "loss_ce", r"yard_train_\d+\.\w+", r"SOLVER\.BASE_LR")


def test_a_loss_that_is_not_finite_is_named():
    from detr_d2.modeling.criterion import Sum
    from detr_d2.training_step import agree_on_counts

    from detectron2.utils.events import EventStorage

    losses = {"loss_ce": 1.0, "loss_bbox": float("nan"), "loss_giou": 1e39, "loss_dice_0": -1e39, "class_error": 1e39}
    sums = {name: Sum(torch.tensor(value), 2.0) for name, value in losses.items()}
    with EventStorage(7), pytest.raises(DivergenceError) as caught:
        images = [{"file_name": "a.jpg"}, {"file_name": "b.jpg"}, {}]
        agree_on_counts(sums, ("loss_ce", "loss_bbox", "loss_giou"), "", images, torch.device("cpu"))

    message = str(caught.value)
    assert "iteration 7: loss_bbox is nan, loss_giou is inf. " in message
    assert "a.jpg, b.jpg" in message


def test_weights_that_are_not_finite_are_not_saved(tiny_config, tmp_path):
    from detr_d2.checkpoint import DetrCheckpointer

    from detectron2.modeling import build_model

    model = build_model(tiny_config())
    checkpointer = DetrCheckpointer(model, str(tmp_path))
    checkpointer.save("model_final")
    before = (tmp_path / "model_final.pth").read_bytes()
    with torch.no_grad():
        model.detr.class_embed.bias[0] = float("nan")

    with pytest.raises(DivergenceError, match=r"class_embed\.bias.*model_final\.pth isn't written"):
        checkpointer.save("model_final")

    assert (tmp_path / "model_final.pth").read_bytes() == before


def test_weights_of_nan_are_refused_where_they_are_loaded(tiny_config, tmp_path, train):
    from detr_d2.checkpoint import DetrCheckpointer

    from detectron2.modeling import build_model

    DetrCheckpointer(build_model(tiny_config()), str(tmp_path)).save("model")
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    content["model"]["detr.class_embed.bias"][0] = float("nan")
    torch.save(content, tmp_path / "model.pth")

    assert_refused(
        train("MODEL.WEIGHTS", str(tmp_path / "model.pth")), r"model\.pth: 1 tensors.*class_embed\.bias.*NaN"
    )


# --- where to go on from ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02\xff\x00binary", "last_checkpoint doesn't hold the name of a checkpoint"),
        (b"", "last_checkpoint doesn't hold the name of a checkpoint"),
        (b"x" * 10_000, "last_checkpoint doesn't hold the name of a checkpoint"),
        (b"model_0000099.pth", r"last_checkpoint names model_0000099\.pth, which isn't there.*model_0000001\.pth"),
    ],
    ids=["binary", "empty", "long", "stale"],
)
def test_a_last_checkpoint_of_no_use_is_named(train, tmp_path, content, message):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "model_0000001.pth").write_bytes(b"")
    (tmp_path / "output" / "last_checkpoint").write_bytes(content)

    result = train("--resume")

    assert_refused(result, message, "--resume")
    assert "MODEL.WEIGHTS" not in result.stderr
    assert not (tmp_path / "output" / "log.txt").exists()


def test_a_last_checkpoint_of_another_training_is_one_sentence(train, tiny_config, tmp_path):
    first = train()
    assert first.returncode == 0, first.stderr
    content = torch.load(tmp_path / "output" / "model_final.pth", weights_only=True)
    content["trainer"]["iteration"] = "many"
    del content["trainer"]["_trainer"]["optimizer"]["param_groups"]
    torch.save(content, tmp_path / "output" / "model_final.pth")

    result = train("--resume", "SOLVER.MAX_ITER", "4")

    assert_refused(result, r"model_final\.pth: the state of the training in it can't be taken up", "without --resume")


def test_missing_weights_are_noticed_before_anything_is_made(train, tmp_path):
    result = train("MODEL.WEIGHTS", "no/such.pth")

    assert_refused(result, r"no/such\.pth")
    assert not (tmp_path / "output").exists()


# --- metrics.json -----------------------------------------------------------------------------------------------------


def test_metrics_are_strict_json(project_folder, tiny_config, tmp_path, monkeypatch):
    """What there is nothing to judge of is left out; evaluations.jsonl has null for it."""
    from detr_d2.data import register_from_config

    module = load_module(project_folder / "train_net.py")
    cfg = tiny_config("SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 1, "TEST.SCENES", 0)
    register_from_config(cfg)
    results = {"panoptic_seg": {"PQ": float("nan"), "SQ": 3.0}, "bbox": {"AP": float("inf")}}
    monkeypatch.setattr(module.Trainer, "test", classmethod(lambda cls, cfg, model: results))

    module.Trainer(cfg).train()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} isn't JSON")

    lines = (tmp_path / "output" / "metrics.json").read_text().splitlines()
    written = [json.loads(line, parse_constant=refuse) for line in lines]
    assert any(line.get("panoptic_seg/SQ") == 3.0 for line in written)
    assert not any("panoptic_seg/PQ" in line or "bbox/AP" in line for line in written)
    evaluations = (tmp_path / "output" / "evaluations.jsonl").read_text().splitlines()
    assert json.loads(evaluations[0], parse_constant=refuse)["panoptic_seg/PQ"] is None
