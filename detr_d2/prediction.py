"""From a config and a checkpoint to results for single pictures."""

from __future__ import annotations

from typing import Any

import torch

import detr_d2.meta_arch  # noqa: F401  registers the model that the config names
from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.errors import ConfigError, WeightsError

from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor


class DetrPredictor(DefaultPredictor):
    """Detectron2's predictor, for any checkpoint that the project reads, whole ones only.

    Call it with a picture, (H, W, 3) uint8 BGR; it returns the model's result for it, at the picture's own size.

    Args:
        cfg: with the checkpoint in ``MODEL.WEIGHTS`` and the datasets registered. ``MODEL.DETR.FREEZE_DETECTOR`` is
            about training and doesn't matter here.

    Raises:
        ConfigError: ``MODEL.DEVICE`` isn't there.
        MissingFileError: there is no such checkpoint.
        WeightsError: no checkpoint is named, it can't be read, or it is another model's, so that a part of this one
            would stay random.
    """

    def __init__(self, cfg: CfgNode) -> None:
        check_device(cfg)
        if not cfg.MODEL.WEIGHTS:
            raise WeightsError(
                "MODEL.WEIGHTS is empty, and a model that never learnt sees nothing. Name a checkpoint, "
                "for example MODEL.WEIGHTS output/detr_panoptic_R50/model_final.pth."
            )
        unloaded = cfg.clone()
        unloaded.defrost()
        unloaded.MODEL.WEIGHTS = ""  # Detectron2's checkpointer would not know of published weights and categories
        unloaded.MODEL.DETR.FREEZE_DETECTOR = False
        super().__init__(unloaded)
        _WholeCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)


class _WholeCheckpointer(DetrCheckpointer):
    """Refuses a checkpoint that leaves parts of the model as they were initialised."""

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        super()._log_incompatible_keys(incompatible)
        wrong_shape = {name for name, *_ in incompatible.incorrect_shapes}
        absent = sorted(wrong_shape | set(incompatible.missing_keys))
        if not absent:
            return
        parts = sorted({name.split(".")[0] for name in absent})
        cure = (
            "It seems to be of stage 1. Name stage 2's model_final.pth, or draw boxes with MODEL.DETR.MASK_ON False."
            if "mask_head" in parts and "detr" not in parts
            else "Name the checkpoint that was trained with this config, or the config it was trained with."
        )
        raise WeightsError(
            f"{self._path} isn't this model's: {len(absent)} tensors of {', '.join(parts)} are absent or have another "
            f"shape, such as {absent[0]}. {cure}"
        )


def check_device(cfg: CfgNode) -> None:
    """Refuses a ``MODEL.DEVICE`` that this machine lacks, before anything is built.

    Raises:
        ConfigError: the device is no device, or not there.
    """
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise ConfigError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}; allowed are cpu, cuda, cuda:1 and the like."
        ) from error
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise ConfigError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, and torch {torch.__version__} finds no GPU here. "
            "Set MODEL.DEVICE cpu, or mend the driver."
        )
    if (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, and there are {torch.cuda.device_count()} GPUs, counted from 0."
        )
