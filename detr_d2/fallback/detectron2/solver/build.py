"""An independently written subset of Detectron2's API; not Detectron2. SGD, and learning rates by iteration."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from detectron2.config import CfgNode

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """SGD over what is trainable, with the weight decay and rate that ``cfg.SOLVER`` gives norms and biases.

    With ``SOLVER.CLIP_GRADIENTS`` each parameter's gradient is clipped by itself before a step.
    """
    solver = cfg.SOLVER
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            rate, decay = solver.BASE_LR, solver.WEIGHT_DECAY
            if isinstance(module, _NORMS) and solver.WEIGHT_DECAY_NORM is not None:
                decay = solver.WEIGHT_DECAY_NORM
            if name == "bias":
                rate *= solver.BIAS_LR_FACTOR
                decay = decay if solver.WEIGHT_DECAY_BIAS is None else solver.WEIGHT_DECAY_BIAS
            groups[rate, decay].append(parameter)
    settings = [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
    optimizer = SGD(settings, lr=solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV, foreach=True)
    if solver.CLIP_GRADIENTS.ENABLED:
        optimizer.register_step_pre_hook(lambda *_: _clip_each_(list(seen), solver.CLIP_GRADIENTS))
    return optimizer


def _clip_each_(parameters: list[nn.Parameter], clip: CfgNode) -> None:
    for parameter in parameters:
        if clip.CLIP_TYPE == "norm":
            clip_grad_norm_(parameter, clip.CLIP_VALUE, clip.NORM_TYPE)
        else:
            clip_grad_value_(parameter, clip.CLIP_VALUE)


class LRMultiplier(LRScheduler):
    """Sets every group's rate to its first one times ``multiplier(iteration / max_iter)``."""

    def __init__(self, optimizer: Optimizer, multiplier: ParamScheduler, max_iter: int, last_iter: int = -1) -> None:
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs; the multiplier comes from the config again."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float | torch.Tensor]:
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [rate * factor for rate in self.base_lrs]


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """The schedule that ``cfg.SOLVER.LR_SCHEDULER_NAME`` names, after a warm-up; call ``step()`` every iteration.

    Raises:
        ValueError: the schedule or the kind of warm-up is unknown.
    """
    solver = cfg.SOLVER
    main = _main_schedule(solver)
    length = min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0)
    start = solver.WARMUP_FACTOR * main(0.0)
    if solver.WARMUP_METHOD == "linear":
        warmup: ParamScheduler = LinearParamScheduler(start, main(0.0 if solver.RESCALE_INTERVAL else length))
    elif solver.WARMUP_METHOD == "constant":
        warmup = ConstantParamScheduler(start)
    else:
        raise ValueError(f"SOLVER.WARMUP_METHOD='{solver.WARMUP_METHOD}'; allowed are 'linear' and 'constant'.")
    scaling = ["rescaled", "rescaled" if solver.RESCALE_INTERVAL else "fixed"]
    schedule = CompositeParamScheduler([warmup, main], lengths=[length, 1 - length], interval_scaling=scaling)
    return LRMultiplier(optimizer, schedule, solver.MAX_ITER)


def _main_schedule(solver: CfgNode) -> ParamScheduler:
    """The multiplier from 1 at the start of training, warm-up aside."""
    name, max_iter = solver.LR_SCHEDULER_NAME, solver.MAX_ITER
    if name == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step <= max_iter]
        if len(steps) < len(solver.STEPS):
            logging.getLogger(__name__).warning(f"SOLVER.STEPS after SOLVER.MAX_ITER={max_iter} have no effect.")
        return MultiStepParamScheduler([solver.GAMMA**k for k in range(len(steps) + 1)], max_iter, milestones=steps)
    if name == "WarmupCosineLR":
        return CosineParamScheduler(1, solver.BASE_LR_END / solver.BASE_LR)
    if name == "WarmupStepWithFixedGammaLR":
        return StepWithFixedGammaParamScheduler(1.0, solver.NUM_DECAYS, solver.GAMMA, max_iter)
    known = "WarmupMultiStepLR, WarmupCosineLR and WarmupStepWithFixedGammaLR"
    raise ValueError(f"SOLVER.LR_SCHEDULER_NAME='{name}'; allowed are {known}.")
