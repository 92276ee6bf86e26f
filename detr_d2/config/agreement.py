"""Which keys of a config have to go together, and with this machine; what each may be by itself is in ``keys.py``."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from detr_d2.errors import ConfigError

from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY

from .keys import check_values


def check_architecture(cfg: CfgNode) -> None:
    """Refuses a ``MODEL.META_ARCHITECTURE`` that isn't this project's, nor made of it.

    Raises:
        ConfigError: there is no such one, or it is another.
    """
    from detr_d2.meta_arch import DetrPanoptic  # which looks at its config with this module

    name = cfg.MODEL.META_ARCHITECTURE
    found = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    if not (isinstance(found, type) and issubclass(found, DetrPanoptic)):
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {name!r}, and this project's is DetrPanoptic. Name one of its configs with "
            "--config-file, such as configs/detr_R50.yaml."
        )


def check_device(cfg: CfgNode) -> None:
    """Refuses a ``MODEL.DEVICE`` that this machine lacks, before anything is built.

    Raises:
        ConfigError: the device is no device, or not there.
    """
    try:
        device = torch.device(cfg.MODEL.DEVICE)
        if device.type != "cuda":
            torch.zeros(1, device=device).tolist()  # torch knows devices of which this machine or this torch has none
            return
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"The device {cfg.MODEL.DEVICE!r} (MODEL.DEVICE) isn't there; allowed are cpu, cuda, cuda:1 and the like."
        ) from error
    if not torch.cuda.is_available():
        raise ConfigError(
            f"The device {cfg.MODEL.DEVICE!r} (MODEL.DEVICE) isn't there: torch {torch.__version__} finds no GPU here. "
            "Choose cpu, or fix the driver."
        )
    if (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"The device {cfg.MODEL.DEVICE!r} (MODEL.DEVICE) isn't there: there are {torch.cuda.device_count()} GPUs, "
            "counted from 0."
        )


def check_model(cfg: CfgNode, num_classes: int) -> None:
    """Refuses keys of ``MODEL`` that describe no network.

    Args:
        cfg: of the model.
        num_classes: of its datasets.

    Raises:
        ConfigError: naming the keys, what is wrong and what to set.
    """
    check_values(cfg, "MODEL.")
    _refuse(_model_problems(cfg, num_classes))


def check_schedule(cfg: CfgNode, processes: int) -> None:
    """Refuses keys of ``SOLVER`` and ``MODEL`` with which a training can't work.

    Args:
        cfg: of the training.
        processes: that train together, on all machines.

    Raises:
        ConfigError: naming the keys, what is wrong and what to set.
    """
    check_values(cfg, "SOLVER.", "MODEL_EMA.")
    _refuse(_schedule_problems(cfg))
    _refuse(_process_problems(cfg, processes))


def _refuse(problems: Iterator[str]) -> None:
    for problem in problems:
        raise ConfigError(problem)


def _model_problems(cfg: CfgNode, num_classes: int) -> Iterator[str]:
    detr, resnets, backbone = cfg.MODEL.DETR, cfg.MODEL.RESNETS, cfg.MODEL.BACKBONE.NAME
    if backbone not in BACKBONE_REGISTRY:
        known = ", ".join(name for name, _ in BACKBONE_REGISTRY)
        yield f"MODEL.BACKBONE.NAME is {backbone!r}; there are {known}. The project's configs use the ResNet."
    if backbone == "build_timm_backbone" and not cfg.MODEL.TIMM.NAME:
        yield "MODEL.TIMM.NAME is empty; name a network of timm, such as convnext_tiny.fb_in22k."
    width, heads = detr.HIDDEN_DIM, detr.NHEADS
    if width % heads:
        near = max(number for number in range(1, heads + 1) if width % number == 0)
        yield f"MODEL.DETR.NHEADS is {heads}, which doesn't divide HIDDEN_DIM {width}; set it to {near}."
    step = 16 if detr.MASK_ON else 4
    if width % step:
        why = "the mask head halves it four times" if detr.MASK_ON else "sines and cosines of two axes share it"
        yield f"MODEL.DETR.HIDDEN_DIM is {width}, no multiple of {step}, and {why}. Set it to {_up(width, step)}."
    if backbone == "build_resnet_backbone":
        yield from _feature_problems(detr, list(resnets.OUT_FEATURES))
    elif detr.MEMORY_FEATURE != "res5":
        yield (
            f"MODEL.DETR.MEMORY_FEATURE is {detr.MEMORY_FEATURE}, which is for build_resnet_backbone alone, and "
            f"MODEL.BACKBONE.NAME is {backbone}. Set it to res5."
        )
    if detr.FREEZE_DETECTOR and not detr.MASK_ON:
        yield "MODEL.DETR.FREEZE_DETECTOR without MODEL.DETR.MASK_ON leaves nothing to train; change one of them."
    if not (detr.COST_CLASS or detr.COST_L1 or detr.COST_GIOU):
        yield "MODEL.DETR.COST_CLASS, COST_L1 and COST_GIOU are all 0, so every matching would be as good; set one."
    thresholds = len(detr.CLASS_SCORE_THRESHOLDS)
    if thresholds not in (0, num_classes):
        yield (
            f"MODEL.DETR.CLASS_SCORE_THRESHOLDS has {thresholds} numbers for {num_classes} classes; give one for each "
            "class, or [] for MODEL.DETR.SCORE_THRESHOLD."
        )
    yield from _resnet_problems(resnets)


def _feature_problems(detr: CfgNode, given: list[str]) -> Iterator[str]:
    all_of_them = [name for name in ("res2", "res3", "res4", "res5") if name <= detr.MEMORY_FEATURE]
    needed = all_of_them if detr.MASK_ON else [detr.MEMORY_FEATURE]
    absent = [name for name in needed if name not in given]
    if absent:
        yield (
            f"MODEL.RESNETS.OUT_FEATURES is {given}; the model needs {', '.join(absent)} as well. "
            f'Set it to "{all_of_them}".'
        )


def _resnet_problems(resnets: CfgNode) -> Iterator[str]:
    if resnets.DEPTH < 50:
        for key, value in (("RES2_OUT_CHANNELS", 64), ("RES5_DILATION", 1), ("NUM_GROUPS", 1)):
            if resnets[key] != value:
                yield f"MODEL.RESNETS.{key} is {resnets[key]}; with DEPTH {resnets.DEPTH} it has to be {value}."
    if resnets.NORM != "GN":
        return
    widths = {"STEM_OUT_CHANNELS": resnets.STEM_OUT_CHANNELS, "RES2_OUT_CHANNELS": resnets.RES2_OUT_CHANNELS}
    if resnets.DEPTH >= 50:
        widths["NUM_GROUPS times WIDTH_PER_GROUP"] = resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP
    for key, value in widths.items():
        if value % 32:
            yield f"MODEL.RESNETS.NORM is GN, of 32 groups, and {key} is {value}; set it to {_up(value, 32)}."


def _schedule_problems(cfg: CfgNode) -> Iterator[str]:
    solver, detr = cfg.SOLVER, cfg.MODEL.DETR
    if not cfg.DATASETS.TRAIN:
        yield "DATASETS.TRAIN is empty, so there is nothing to train on; name a dataset, or add --eval-only."
    if solver.AMP.ENABLED and not (torch.cuda.is_available() and cfg.MODEL.DEVICE.startswith("cuda")):
        yield (
            f"SOLVER.AMP.ENABLED needs a GPU, and MODEL.DEVICE is {cfg.MODEL.DEVICE}; set SOLVER.AMP.ENABLED False. "
            "MODEL.DETR.TRAINING_DTYPE bfloat16 is for processors, too."
        )
    if solver.OPTIMIZER == "SGD" and solver.NESTEROV and not solver.MOMENTUM:
        yield "SOLVER.NESTEROV is True and SOLVER.MOMENTUM 0, of which it is a kind; set a momentum, such as 0.9."
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and solver.BASE_LR_END > solver.BASE_LR:
        yield f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}, above BASE_LR {solver.BASE_LR}; a cosine ends lower."
    if solver.BACKBONE_LAYER_DECAY != 1 and cfg.MODEL.BACKBONE.NAME != "build_resnet_backbone":
        yield (
            f"SOLVER.BACKBONE_LAYER_DECAY is {solver.BACKBONE_LAYER_DECAY}, which is for build_resnet_backbone alone, "
            f"and MODEL.BACKBONE.NAME is {cfg.MODEL.BACKBONE.NAME}. Set it to 1.0; build_timm_backbone has "
            "MODEL.TIMM.LAYER_DECAY."
        )
    if solver.MAX_ITER in solver.STEPS:
        yield f"SOLVER.STEPS is {tuple(solver.STEPS)}, and MAX_ITER {solver.MAX_ITER} ends the training; leave it out."
    if solver.RESCALE_INTERVAL and solver.WARMUP_ITERS >= solver.MAX_ITER:
        yield (
            f"SOLVER.WARMUP_ITERS is {solver.WARMUP_ITERS}, and MAX_ITER {solver.MAX_ITER} leaves nothing for the "
            "schedule that RESCALE_INTERVAL stretches; warm up for less."
        )
    weights = [detr.MASK_WEIGHT, detr.DICE_WEIGHT, detr.MASK_ID_WEIGHT] if detr.MASK_ON else []
    weights += [] if detr.FREEZE_DETECTOR else [detr.CLASS_WEIGHT, detr.L1_WEIGHT, detr.GIOU_WEIGHT]
    if not any(weights):
        yield "The weights of all losses, MODEL.DETR.CLASS_WEIGHT and so on, are 0: nothing would be learnt. Set one."


def _process_problems(cfg: CfgNode, processes: int) -> Iterator[str]:
    batch, reference = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE
    divisor, what = (reference, "SOLVER.REFERENCE_WORLD_SIZE") if reference else (processes, "the number of processes")
    if batch % divisor:
        yield (
            f"SOLVER.IMS_PER_BATCH is {batch}, for all processes together, and {what} is {divisor}; it has to be a "
            f"multiple of that, such as {_up(batch, divisor)}."
        )
    parts = cfg.SOLVER.ACCUMULATE_BATCHES
    if batch // divisor % parts:
        yield (
            f"SOLVER.ACCUMULATE_BATCHES is {parts}, and a process has {batch // divisor} images of the "
            f"{batch} of SOLVER.IMS_PER_BATCH, which can't be {parts} equal parts. Set SOLVER.IMS_PER_BATCH "
            f"{_up(batch, divisor * parts)}, or other parts."
        )


def _up(value: int, step: int) -> int:
    """The next multiple of ``step``."""
    return -(-value // step) * step
