"""A run that goes on as if nothing had happened: its chance and its images are a matter of the iteration alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from detr_d2.data.train_loader import STEPS, TrainLoader, seed_chance

from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class ExactResume(HookBase):
    """Keeps in each checkpoint where the loader is, and makes a step's chance follow from seed, process and iteration.

    So nothing has to be known of the generators of random numbers of all processes and devices, and an evaluation in
    between doesn't change what comes after it.

    Args:
        loader: the trainer's.
    """

    def __init__(self, loader: TrainLoader) -> None:
        self._loader = loader
        self._is_loaded = False

    def before_train(self) -> None:
        if self.trainer.start_iter and not self._is_loaded:
            logger.warning(
                "The checkpoint doesn't say where in the order of images it was written, as one of an earlier version; "
                "the order begins anew."
            )

    def before_step(self) -> None:
        seed_chance(self._loader.seed, STEPS, comm.get_rank(), self.trainer.iter)
        if torch.cuda.is_available():
            torch.cuda.manual_seed(torch.initial_seed())

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._loader.load_state_dict(state_dict)
        self._is_loaded = True
