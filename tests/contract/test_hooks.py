"""Hooks: when they are called, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase, hooks
from detectron2.utils.events import EventStorage


class Trainer:
    """Just enough of a trainer for hooks: a storage, counters, and a loop."""

    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler

    def __init__(self, max_iter: int, registered: list[HookBase], start_iter: int = 0) -> None:
        self.iter, self.start_iter, self.max_iter = start_iter, start_iter, max_iter
        self.hooks = registered
        for hook in registered:
            hook.trainer = self

    def train(self, step: Callable[[], Any] = lambda: None) -> EventStorage:
        with EventStorage(self.start_iter) as self.storage:
            for hook in self.hooks:
                hook.before_train()
            for iteration in range(self.start_iter, self.max_iter):
                self.iter = self.storage.iter = iteration
                for hook in self.hooks:
                    hook.before_step()
                step()
                for hook in self.hooks:
                    hook.after_step()
            self.iter += 1
            self.storage.iter = self.iter
            for hook in self.hooks:
                hook.after_train()
        return self.storage


@pytest.mark.parametrize(("period", "at_end", "expected"), [(2, True, [1, 3, 6]), (2, False, [1, 3]), (0, True, [6])])
def test_eval_hook_runs_periodically_and_once_at_the_end(period: int, at_end: bool, expected: list[int]) -> None:
    called: list[int] = []
    hook = hooks.EvalHook(period, lambda: called.append(trainer.iter), eval_after_train=at_end)
    trainer = Trainer(6, [hook])

    trainer.train()

    assert called == expected


def test_eval_hook_puts_nested_results_under_joined_names() -> None:
    hook = hooks.EvalHook(0, lambda: {"panoptic_seg": {"PQ": 50, "SQ": 70.5}, "time": 1})

    storage = Trainer(3, [hook]).train()

    assert storage.latest() == {"panoptic_seg/PQ": (50.0, 3), "panoptic_seg/SQ": (70.5, 3), "time": (1.0, 3)}


def test_iteration_timer_puts_time_after_its_warm_up() -> None:
    storage = Trainer(5, [hooks.IterationTimer()]).train()

    assert [iteration for _, iteration in storage.histories()["time"].values()] == [2, 3, 4]
    assert all(seconds >= 0 for seconds, _ in storage.histories()["time"].values())


def test_lr_scheduler_hook_puts_the_rate_of_the_largest_group_then_steps() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    optimizer = torch.optim.SGD([{"params": parameters[:1], "lr": 9.0}, {"params": parameters[1:], "lr": 1.0}])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)

    trainer = Trainer(4, [hooks.LRScheduler()])
    trainer.optimizer, trainer.scheduler = optimizer, scheduler

    storage = trainer.train(optimizer.step)

    assert [rate for rate, _ in storage.histories()["lr"].values()] == pytest.approx([1.0, 1.0, 0.1, 0.1])


def test_periodic_checkpointer_names_files_by_iteration(tmp_path: Path) -> None:
    checkpointer = DetectionCheckpointer(torch.nn.Linear(1, 1), str(tmp_path))

    Trainer(5, [hooks.PeriodicCheckpointer(checkpointer, 2)]).train()

    expected = ["last_checkpoint", "model_0000001.pth", "model_0000003.pth", "model_final.pth"]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize(
    ("mode", "values", "kept"),
    [
        ("max", [2.0, 1.0, 3.0, float("nan")], (3.0, 5)),
        ("min", [2.0, 1.0, 1.0, 3.0], (1.0, 3)),
        ("max", [float("nan"), 0.5, 0.5, 0.1], (0.5, 3)),
    ],
)
def test_best_checkpointer_keeps_the_model_of_the_best_evaluation(
    tmp_path: Path, mode: str, values: list[float], kept: tuple[float, int]
) -> None:
    checkpointer = DetectionCheckpointer(torch.nn.Linear(1, 1), str(tmp_path))
    given = iter(values)
    evaluation = hooks.EvalHook(2, lambda: {"seg": {"PQ": next(given)}})
    best = hooks.BestCheckpointer(2, checkpointer, "seg/PQ", mode, file_prefix="best")

    Trainer(7, [evaluation, best]).train()

    assert (best.best_metric, best.best_iter) == kept
    saved = torch.load(tmp_path / "best.pth", weights_only=True)
    assert saved["iteration"] == kept[1] and sorted(p.name for p in tmp_path.iterdir()) == [
        "best.pth",
        "last_checkpoint",
    ]


def test_best_checkpointer_saves_nothing_for_a_metric_that_is_not_there(tmp_path: Path) -> None:
    checkpointer = DetectionCheckpointer(torch.nn.Linear(1, 1), str(tmp_path))

    Trainer(4, [hooks.EvalHook(2, lambda: {"PQ": 1.0}), hooks.BestCheckpointer(2, checkpointer, "PK")]).train()

    assert list(tmp_path.iterdir()) == []


def test_best_checkpointer_refuses_an_unknown_mode(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        hooks.BestCheckpointer(2, DetectionCheckpointer(torch.nn.Linear(1, 1), str(tmp_path)), "PQ", mode="best")
