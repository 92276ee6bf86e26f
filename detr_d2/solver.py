"""The optimizer: the backbone at its own rate, and gradients clipped over the whole model.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", appendix A.4.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from detr_d2.config import check_values
from detr_d2.errors import ConfigError
from detr_d2.timm_backbone import TimmBackbone
from detr_d2.training_step import refuse_non_finite

from detectron2.config import CfgNode

#: Of Detectron2's ResNets, from the input on.
_STAGES = ("stem", "res2", "res3", "res4", "res5")

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"ADAMW": torch.optim.AdamW, "SGD": torch.optim.SGD}


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of ``SOLVER.OPTIMIZER`` with Detectron2's solver keys.

    Args:
        cfg: reads SOLVER.OPTIMIZER, BASE_LR, BACKBONE_MULTIPLIER, BACKBONE_LAYER_DECAY, MASK_HEAD_MULTIPLIER,
            BIAS_LR_FACTOR, WEIGHT_DECAY, WEIGHT_DECAY_NORM, WEIGHT_DECAY_BIAS, with "SGD" MOMENTUM and NESTEROV, and
            CLIP_GRADIENTS, whose CLIP_TYPE may be "value", "norm" (each tensor alone) or "full_model".
        model: parameters with ``requires_grad`` False are left out.

    Raises:
        ConfigError: a value of ``SOLVER`` that isn't allowed, or nothing to train.
    """
    check_values(cfg, "SOLVER.")
    name = cfg.SOLVER.OPTIMIZER
    groups = parameter_groups(cfg, model)
    if not groups:
        raise ConfigError(
            "Nothing of the model is left to train; see MODEL.DETR.FREEZE_DETECTOR and MODEL.DETR.MASK_ON."
        )
    options: dict[str, Any] = {"lr": cfg.SOLVER.BASE_LR}
    if name == "SGD":
        options |= {"momentum": cfg.SOLVER.MOMENTUM, "nesterov": cfg.SOLVER.NESTEROV}
    # Fused updates are several times faster on the CPU. On a GPU they would undo AMP's scaling only after the clipping.
    options["fused"] = all(parameter.device.type == "cpu" for group in groups for parameter in group["params"])
    cls = OPTIMIZERS[name]
    clip = _clipping(cfg.SOLVER.CLIP_GRADIENTS) if cfg.SOLVER.CLIP_GRADIENTS.ENABLED else _norm
    cls = _with_clipping(cls, clip)
    return cls(groups, **options)  # type: ignore[arg-type]


def parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """Trainable parameters by learning rate and weight decay, so that the optimizer updates each group at once."""
    solver = cfg.SOLVER
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    scales = _stage_scales(model, solver.BACKBONE_LAYER_DECAY)
    for module in model.modules():
        if isinstance(module, TimmBackbone):
            scales |= module.learning_rate_scales()
    for module_name, module in model.named_modules():
        is_norm = isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm)
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            rate = solver.BASE_LR * _multiplier(solver, module_name) * scales.get(parameter, 1.0)
            # As in Detectron2, None gives norms and biases what everything else has, and a norm's bias is a bias.
            decay = solver.WEIGHT_DECAY_NORM if is_norm else None
            if name == "bias":
                rate *= 1.0 if solver.BIAS_LR_FACTOR is None else solver.BIAS_LR_FACTOR
                decay = decay if solver.WEIGHT_DECAY_BIAS is None else solver.WEIGHT_DECAY_BIAS
            decay = solver.WEIGHT_DECAY if decay is None else decay
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def _stage_scales(model: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """What the learning rates of a ResNet's parameters are multiplied by: 1 in its last stage, ``decay`` before it."""
    backbones = [module for name, module in model.named_modules() if name.split(".")[-1] == "backbone"]
    scales: dict[nn.Parameter, float] = {}
    for backbone in backbones if decay != 1.0 else []:
        stages = [stage for name in _STAGES if (stage := getattr(backbone, name, None)) is not None]
        for number, stage in enumerate(reversed(stages)):
            scales |= dict.fromkeys(stage.parameters(), decay**number)
    return scales


def _multiplier(solver: CfgNode, module_name: str) -> float:
    parts = module_name.split(".")
    if "backbone" in parts:
        return float(solver.BACKBONE_MULTIPLIER)
    return float(solver.MASK_HEAD_MULTIPLIER) if {"bbox_attention", "mask_head"} & set(parts) else 1.0


def refuse_other_optimizers(model_class: type[nn.Module]) -> None:
    """Let an installed Detectron2's own ``build_optimizer`` say that it isn't for models of a class.

    It takes SGD whatever ``SOLVER.OPTIMIZER`` says, and stops at the clip type "full_model" with the name of an enum.
    Here is the first thing that it does with a model; models of other classes go on as ever.
    """
    from detectron2.solver import build  # type: ignore[attr-defined]

    group_parameters = build.get_default_optimizer_params

    @functools.wraps(group_parameters)
    def checked(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if isinstance(getattr(model, "module", model), model_class):
            raise ConfigError(
                "Detectron2's build_optimizer takes SGD, whatever SOLVER.OPTIMIZER is, and doesn't clip as "
                "SOLVER.CLIP_GRADIENTS says. Override your trainer's build_optimizer to return "
                "detr_d2.solver.build_optimizer(cfg, model); docs/detectron2.md shows a whole trainer."
            )
        return group_parameters(model, *args, **kwargs)

    build.get_default_optimizer_params = checked


Clip = Callable[[list[nn.Parameter]], Tensor]
"""Changes gradients, and returns a number that is finite if they are: their norm before or after it."""


def _clipping(options: CfgNode) -> Clip:
    """What is done with all parameters' gradients before a step."""
    value, norm_type = options.CLIP_VALUE, options.NORM_TYPE

    def clip_full_model(parameters: list[nn.Parameter]) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(parameters, value, norm_type)

    def clip_each(parameters: list[nn.Parameter]) -> Tensor:
        clipped = (torch.nn.utils.clip_grad_norm_(parameter, value, norm_type) for parameter in parameters)
        return torch.nn.utils.get_total_norm(list(clipped))

    def clip_values(parameters: list[nn.Parameter]) -> Tensor:
        torch.nn.utils.clip_grad_value_(parameters, value)
        return _norm(parameters)

    kinds: dict[str, Clip] = {"full_model": clip_full_model, "norm": clip_each, "value": clip_values}
    return kinds[options.CLIP_TYPE]


def _norm(parameters: list[nn.Parameter]) -> Tensor:
    return torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])


def _with_clipping(cls: type[torch.optim.Optimizer], clip: Clip) -> type[torch.optim.Optimizer]:
    """A subclass whose ``step`` clips first; a class, as Detectron2's AMP trainer and hooks expect an optimizer.

    Gradients that aren't finite are refused: they would make all weights NaN, and the next step would be blamed for it.
    """

    def step(self: torch.optim.Optimizer, closure: Any = None) -> Any:
        parameters = itertools.chain(*(group["params"] for group in self.param_groups))
        refuse_non_finite(clip([each for each in parameters if each.grad is not None]))
        return cls.step(self, closure)

    return type(f"{cls.__name__}WithClipping", (cls,), {"step": step})
