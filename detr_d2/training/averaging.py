"""Weights averaged over a training's steps: evaluated and stored beside the weights themselves.

Source: Tarvainen and Valpola 2017, "Mean teachers are better role models", section 2; the average's warm-up is that of
RF-DETR and YOLO's trainings.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from detr_d2.checkpoint import DetrCheckpointer

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)

PREFIX = "ema"
"""Of the names of what is measured of averaged weights: ``ema/panoptic_seg/PQ``."""

FILE = "model_final_ema"
"""The averaged weights at the end of a training, with ``.pth``."""


class WeightsOnly(DetrCheckpointer):
    """Saves weights without the training's state, a third of the size; ``--resume`` never starts from such a file."""

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Not the last checkpoint: a run goes on from where it stopped."""


class AveragedWeights(HookBase):
    """An exponential average of what a training changes: parameters, and statistics of batch norms.

    After update t the average has moved by ``1 - decay * (1 - exp(-t / tau))`` of its way to the weights, so that it
    follows a young training closely. It goes into checkpoints; with several processes each has the same one.

    Args:
        cfg: ``MODEL_EMA.DECAY``, ``MODEL_EMA.TAU`` and ``OUTPUT_DIR`` are looked at.
        model: the trainer's.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        self._decay, self._tau, self._folder = cfg.MODEL_EMA.DECAY, cfg.MODEL_EMA.TAU, cfg.OUTPUT_DIR
        self._model = model
        self._average: dict[str, Tensor] = {}
        self._updates = 0

    @property
    def _weights(self) -> dict[str, Tensor]:
        """What the average is of, by name: the tensors themselves."""
        model = getattr(self._model, "module", self._model)
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        buffers = {name for name, _ in model.named_buffers()}
        return {
            name: each
            for name, each in model.state_dict().items()
            if each.is_floating_point() and (name in trained or name in buffers)
        }

    def before_train(self) -> None:
        """The average begins with the weights, unless a checkpoint had one."""
        weights = self._weights
        if not self._average:
            if self.trainer.start_iter:
                logger.warning("The checkpoint has no averaged weights; the average begins here.")
            self._average = {name: each.clone() for name, each in weights.items()}
        self._average = {name: self._average[name].to(each.device) for name, each in weights.items()}

    def after_step(self) -> None:
        """Move the average towards the weights."""
        self._updates += 1
        step = 1 - self._decay * (1 - math.exp(-self._updates / self._tau))
        for name, each in self._weights.items():
            self._average[name].lerp_(each, step)

    def after_train(self) -> None:
        """A training that went through leaves ``model_final_ema.pth`` beside ``model_final.pth``."""
        if self.trainer.iter + 1 >= self.trainer.max_iter and comm.is_main_process():
            with self.applied():
                WeightsOnly(self._model, self._folder).save(FILE, iteration=self.trainer.max_iter - 1)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the model has the averaged weights; afterwards its own, to the last bit."""
        weights = self._weights
        own = {name: each.clone() for name, each in weights.items()}
        try:
            _copy(self._average, weights)
            yield
        finally:
            _copy(own, weights)

    def evaluated(self, cfg: CfgNode, test: Callable[[CfgNode, nn.Module], dict[str, Any]]) -> dict[str, Any]:
        """The averaged weights' results by ``ema``; their files go to the folder of that name in ``OUTPUT_DIR``."""
        other = cfg.clone()
        other.defrost()
        other.OUTPUT_DIR = os.path.join(self._folder, PREFIX)
        with self.applied():
            return {PREFIX: test(other, self._model)}

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of its updates."""
        return {"average": dict(self._average), "updates": self._updates}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there; a copy, as the checkpoint's tensors are the caller's."""
        self._average = {name: each.clone() for name, each in state_dict["average"].items()}
        self._updates = int(state_dict["updates"])


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], destination: Mapping[str, Tensor]) -> None:
    for name, each in destination.items():
        each.copy_(source[name])
