"""An independently written subset of Detectron2's API; not Detectron2. Learning rates by iteration."""

from __future__ import annotations

import logging
from typing import Any

import fvcore.common.param_scheduler as schedules
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from detr_d2.errors import ConfigError

from detectron2.config import CfgNode

__all__ = ["build_lr_scheduler"]


class LRMultiplier(LRScheduler):
    """Sets every group's rate to its first one times ``multiplier(iteration / max_iter)``."""

    def __init__(self, optimizer: Optimizer, multiplier: schedules.ParamScheduler, max_iter: int) -> None:
        self._multiplier, self._max_iter = multiplier, max_iter
        super().__init__(optimizer)

    def state_dict(self) -> dict[str, Any]:
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[Any]:
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [rate * factor for rate in self.base_lrs]


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """``cfg.SOLVER.LR_SCHEDULER_NAME`` after a warm-up, with a ``step()`` each iteration; ConfigError if unknown."""
    solver = cfg.SOLVER
    main, length = _main_schedule(solver), min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0)
    start, end = solver.WARMUP_FACTOR * main(0.0), main(0.0 if solver.RESCALE_INTERVAL else length)
    if solver.WARMUP_METHOD not in ("linear", "constant"):
        raise ConfigError(f"SOLVER.WARMUP_METHOD is '{solver.WARMUP_METHOD}'; allowed are 'linear' and 'constant'.")
    warmup = schedules.LinearParamScheduler(start, end if solver.WARMUP_METHOD == "linear" else start)
    scaling = ["rescaled", "rescaled" if solver.RESCALE_INTERVAL else "fixed"]
    schedule = schedules.CompositeParamScheduler([warmup, main], [length, 1 - length], scaling)
    return LRMultiplier(optimizer, schedule, solver.MAX_ITER)


def _main_schedule(solver: CfgNode) -> schedules.ParamScheduler:
    """The multiplier of the rate over training, warm-up aside."""
    name, max_iter = solver.LR_SCHEDULER_NAME, solver.MAX_ITER
    if name == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step <= max_iter]
        if len(steps) < len(solver.STEPS):
            logging.getLogger(__name__).warning(f"SOLVER.STEPS after SOLVER.MAX_ITER={max_iter} have no effect.")
        values = [solver.GAMMA**k for k in range(len(steps) + 1)]
        return schedules.MultiStepParamScheduler(values, max_iter, milestones=steps)
    if name == "WarmupCosineLR":
        return schedules.CosineParamScheduler(1, solver.BASE_LR_END / solver.BASE_LR)
    if name == "WarmupStepWithFixedGammaLR":
        return schedules.StepWithFixedGammaParamScheduler(1.0, solver.NUM_DECAYS, solver.GAMMA, max_iter)
    known = "WarmupMultiStepLR, WarmupCosineLR and WarmupStepWithFixedGammaLR"
    raise ConfigError(f"SOLVER.LR_SCHEDULER_NAME is '{name}'; allowed are {known}.")
