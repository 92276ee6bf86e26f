"""Learning rates by iteration are Detectron2's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from detectron2.config import CfgNode, get_cfg
from detectron2.solver import build_lr_scheduler

# Rates of Detectron2 0.6 (fvcore 0.1.5.post20221221) at iterations 0 to 10 of 12.
RECORDED = [
    ({}, [0.1, 0.325, 0.55, 0.775, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01]),
    ({"WARMUP_METHOD": "constant"}, [0.1, 0.1, 0.1, 0.1, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01]),
    ({"WARMUP_ITERS": 0, "STEPS": (6, 30)}, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1]),
    ({"WARMUP_ITERS": 20}, [0.1, 0.0925, 0.085, 0.0775, 0.07, 0.0625, 0.055, 0.0475, 0.04, 0.0325, 0.025]),
    ({"RESCALE_INTERVAL": True}, [0.1, 0.325, 0.55, 0.775, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01]),
    (
        {"LR_SCHEDULER_NAME": "WarmupCosineLR"},
        [0.1, 0.2625, 0.425, 0.5875, 0.75, 0.62941, 0.5, 0.37059, 0.25, 0.146447, 0.066987],
    ),
    (
        {"LR_SCHEDULER_NAME": "WarmupCosineLR", "RESCALE_INTERVAL": True, "BASE_LR_END": 0.1},
        [0.1, 0.325, 0.55, 0.775, 1.0, 0.965746, 0.868198, 0.722208, 0.55, 0.377792, 0.231802],
    ),
    (
        {"LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR", "NUM_DECAYS": 2},
        [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01],
    ),
]


def make_cfg(**solver: Any) -> CfgNode:
    cfg = get_cfg()
    defaults = {"MAX_ITER": 12, "BASE_LR": 1.0, "STEPS": (6, 9), "WARMUP_ITERS": 4, "WARMUP_FACTOR": 0.1}
    for key, value in {**defaults, **solver}.items():
        cfg.SOLVER[key] = value
    return cfg


def make_optimizer() -> torch.optim.Optimizer:
    """Two groups, the second at half the rate."""
    rates = (1.0, 0.5)
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize(("settings", "rates"), RECORDED)
def test_lr_scheduler_rates_are_those_recorded_from_detectron2(settings: dict[str, Any], rates: list[float]) -> None:
    optimizer = make_optimizer()
    scheduler = build_lr_scheduler(make_cfg(**settings), optimizer)

    seen = []
    for _ in rates:
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()

    assert [first for first, _ in seen] == pytest.approx(rates, abs=1e-6)
    assert [second for _, second in seen] == pytest.approx([rate / 2 for rate in rates], abs=1e-6)


def test_lr_scheduler_state_is_plain_and_resumes() -> None:
    optimizer = make_optimizer()
    scheduler = build_lr_scheduler(make_cfg(), optimizer)
    for _ in range(6):
        optimizer.step()
        scheduler.step()

    state = scheduler.state_dict()
    resumed_optimizer = make_optimizer()
    resumed = build_lr_scheduler(make_cfg(), resumed_optimizer)
    resumed.load_state_dict(state)
    resumed_optimizer.step()
    resumed.step()

    assert state == {"base_lrs": [1.0, 0.5], "last_epoch": 6}
    assert resumed_optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize("setting", [{"LR_SCHEDULER_NAME": "Slow"}, {"WARMUP_METHOD": "slow"}])
def test_lr_scheduler_refuses_unknown_names(setting: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"(?i)slow"):
        build_lr_scheduler(make_cfg(**setting), make_optimizer())
