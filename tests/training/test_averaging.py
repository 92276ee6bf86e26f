"""Averaged weights: what they are, that nothing of the training changes by them, and that they outlast a cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from detr_d2.training.averaging import AveragedWeights
from detr_d2.training.evaluation_log import read_evaluations
from tests.training.cutting import Cut, differences

AVERAGED: tuple[object, ...] = ("MODEL_EMA.ENABLED", True, "MODEL_EMA.DECAY", 0.9, "MODEL_EMA.TAU", 2.0)


def _hook(model: nn.Module, decay: float = 0.5, tau: float = 1e-3) -> AveragedWeights:
    cfg: Any = SimpleNamespace(MODEL_EMA=SimpleNamespace(DECAY=decay, TAU=tau), OUTPUT_DIR="")
    hook = AveragedWeights(cfg, model)
    hook.trainer = SimpleNamespace(start_iter=0, iter=0, max_iter=9)  # type: ignore[assignment]
    hook.before_train()
    return hook


def _set(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_the_average_moves_by_a_part_of_its_way() -> None:
    model = nn.Linear(1, 1)
    _set(model, 0.0)
    hook = _hook(model)

    _set(model, 8.0)
    hook.after_step()
    hook.after_step()

    with hook.applied():
        assert model.weight.item() == pytest.approx(6.0)
    assert model.weight.item() == 8.0


def test_a_young_average_follows_closely() -> None:
    model = nn.Linear(1, 1)
    _set(model, 0.0)
    hook = _hook(model, decay=0.999, tau=100.0)

    _set(model, 1.0)
    hook.after_step()

    with hook.applied():
        assert model.weight.item() > 0.98


def test_statistics_are_averaged_and_frozen_weights_are_not_kept() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].requires_grad_(False)
    hook = _hook(model)

    model(torch.randn(8, 2) + 5)
    hook.after_step()

    average = hook.state_dict()["average"]
    assert sorted(average) == ["1.bias", "1.running_mean", "1.running_var", "1.weight"]
    assert torch.allclose(average["1.running_mean"], model[1].running_mean / 2)


def test_a_training_that_was_cut_off_ends_with_the_same_average(train: Callable[..., Any], tmp_path: Path) -> None:
    whole, resumed = train("whole", *AVERAGED), train("resumed", *AVERAGED, cuts=[Cut(3), Cut(4)])

    assert differences(whole, resumed) == []
    average = whole["trainer"]["hooks"]["AveragedWeights"]["average"]
    final = torch.load(tmp_path / "whole" / "model_final_ema.pth", weights_only=True)["model"]
    assert all(torch.equal(final[name], each) for name, each in average.items())
    assert any(not torch.equal(whole["model"][name], each) for name, each in average.items())
    lines = read_evaluations(tmp_path / "whole" / "evaluations.jsonl")
    assert all("bbox/AP" in line and "ema/bbox/AP" in line for line in lines)


def test_an_average_changes_nothing_of_the_training(train: Callable[..., Any]) -> None:
    averaged, plain = train("averaged", *AVERAGED), train("plain")

    assert differences(averaged["model"], plain["model"]) == []


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_better_of_the_two_is_the_best_checkpoint(train: Callable[..., Any], tmp_path: Path, mode: str) -> None:
    keys = ("TEST.BEST_CHECKPOINT.METRIC", "validation/total_loss", "TEST.BEST_CHECKPOINT.MODE", mode)
    content = train("run", *AVERAGED, "SOLVER.MAX_ITER", 2, *keys)

    (line,) = read_evaluations(tmp_path / "run" / "evaluations.jsonl")
    own, average = line["validation/total_loss"], line["ema/validation/total_loss"]
    best = torch.load(tmp_path / "run" / "model_best.pth", weights_only=True)["model"]
    is_average = average < own if mode == "min" else average > own
    saved = content["trainer"]["hooks"]["AveragedWeights"]["average"]
    expected = {**content["model"], **saved} if is_average else content["model"]
    assert own != average and differences(best, expected) == []
