"""An independently written subset of Detectron2's API; not Detectron2. SGD, and learning rates by iteration."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any

import fvcore.common.param_scheduler as schedules
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from detr_d2.errors import ConfigError

from detectron2.config import CfgNode

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """SGD with ``cfg.SOLVER``'s rates and decays of weights, norms and biases, clipping each gradient by itself."""
    solver, clip = cfg.SOLVER, cfg.SOLVER.CLIP_GRADIENTS
    settings: dict[nn.Parameter, tuple[float, float]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            rate, decay = solver.BASE_LR, solver.WEIGHT_DECAY
            if isinstance(module, _NORMS) and solver.WEIGHT_DECAY_NORM is not None:
                decay = solver.WEIGHT_DECAY_NORM
            if name == "bias":
                rate *= solver.BIAS_LR_FACTOR
                decay = decay if solver.WEIGHT_DECAY_BIAS is None else solver.WEIGHT_DECAY_BIAS
            if parameter.requires_grad:
                settings.setdefault(parameter, (rate, decay))
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for parameter, setting in settings.items():
        groups[setting].append(parameter)
    named = [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]
    optimizer = SGD(named, lr=solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV, foreach=True)

    def clip_(*_: Any) -> None:
        for parameter in settings:
            if clip.CLIP_TYPE == "norm":
                clip_grad_norm_(parameter, clip.CLIP_VALUE, clip.NORM_TYPE)
            else:
                clip_grad_value_(parameter, clip.CLIP_VALUE)

    if clip.ENABLED:
        optimizer.register_step_pre_hook(clip_)
    return optimizer


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
