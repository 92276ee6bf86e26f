"""What becomes of a training step that leaves the numbers: it is saved, and ends the training or is left out."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from detr_d2.errors import DivergenceError
from detr_d2.structures import BatchedInputs
from detr_d2.training.saved_step import (
    Diagnosis,
    SavedStep,
    autocast_of,
    diagnose,
    norms_by_part,
    random_state_of,
    write_step,
)
from detr_d2.training_step import DivergedElsewhere, DivergedGradients, images_of

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

if TYPE_CHECKING:
    from detr_d2.meta_arch import DetrPanoptic

logger = logging.getLogger(__name__)

FOLDER = "diverged"
"""In ``OUTPUT_DIR``: steps whose losses weren't finite."""


class StepGuard(HookBase):
    """Takes the steps of a training; one whose losses or gradients aren't finite ends it, or is left out.

    All processes do the same.

    Its number of steps left out goes into checkpoints, so that a resumed training counts on.

    Args:
        cfg: ``SOLVER.MAX_SKIPPED_STEPS`` and ``OUTPUT_DIR`` are looked at.
        model: the trainer's.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        self._most, self._folder = cfg.SOLVER.MAX_SKIPPED_STEPS, Path(cfg.OUTPUT_DIR, FOLDER)
        self._model = cast("DetrPanoptic", getattr(model, "module", model))
        self._passes: list[tuple[BatchedInputs, dict[str, Tensor], str]] = []
        self._statistics: list[tuple[Tensor, Tensor]] = []
        self._hook: RemovableHandle | None = None
        self.skipped = 0

    def before_train(self) -> None:
        """What each forward pass begins with is remembered until the step is taken."""
        self._hook = self._model.register_forward_pre_hook(self._remember)

    def after_train(self) -> None:
        """Say what was left out."""
        if self._hook is not None:
            self._hook.remove()
        if self.skipped:
            logger.warning("%d of the training's steps were left out; they are in %s.", self.skipped, self._folder)

    def state_dict(self) -> dict[str, Any]:
        """The number of steps left out; empty where that is 0."""
        return {"skipped": self.skipped} if self.skipped else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Count on from there."""
        self.skipped = int(state_dict["skipped"])

    def take(self, step: Callable[[], None]) -> None:
        """Takes a step, or leaves it out. All processes have to call it.

        Raises:
            DivergenceError: losses or gradients aren't finite, and ``SOLVER.MAX_SKIPPED_STEPS`` are left out already;
                in all processes with the same message.
        """
        self._passes = []
        try:
            step()
        except DivergenceError as error:
            problem, kind = str(error), type(error)
        else:
            self._passes = []
            return
        # Not in the except block, where the error keeps the tensors of the forward pass.
        found = comm.all_gather(self._described(problem, kind))
        self._passes = []
        self._restore_statistics()
        message = " ".join(filter(None, found))
        if self.skipped >= self._most:
            raise DivergenceError(message)
        self.skipped += 1
        self.trainer.storage.put_scalar("skipped_steps", self.skipped, smoothing_hint=False)
        logger.warning("Step left out, the %d. of at most %d. %s", self.skipped, self._most, message)

    def _remember(self, module: nn.Module, inputs: tuple[BatchedInputs]) -> None:
        if module.training:
            device = self._model.device
            if not self._passes:  # the first of the step
                self._statistics = [(each, each.clone()) for each in _running_statistics(module)] if self._most else []
            self._passes.append((inputs[0], random_state_of(device), autocast_of(device)))

    def _restore_statistics(self) -> None:
        """The forward pass that is left out has gone into batch norm's statistics, NaN and all."""
        for statistics, before in self._statistics:
            statistics.copy_(before)

    def _of_process(self) -> str:
        return f"Process {comm.get_rank()}: " if comm.get_world_size() > 1 else ""

    def _described(self, problem: str, kind: type[DivergenceError]) -> str:
        """Saves the step; what is known of it, in sentences. Empty: it only was wrong in another process."""
        if issubclass(kind, DivergedElsewhere):
            return ""
        start = self._of_process() + problem
        if not self._passes:  # another forward pass than the model's own
            return start
        earlier = norms_by_part({name: each.grad for name, each in self._model.named_parameters()})
        of_what = "of the parts of this step before" if len(self._passes) > 1 else "of the step before, as applied"
        # Losses were those of the last pass; of a step of several parts, any of them may have spoilt the gradients.
        for batch, random_state, autocast in self._passes if issubclass(kind, DivergedGradients) else self._passes[-1:]:
            diagnosis = self._diagnosed(batch, random_state, autocast)
            if not all(map(math.isfinite, diagnosis.gradient_norms.values())):
                break
        self._restore_statistics()
        if issubclass(kind, DivergedGradients):
            # All processes have the sum of all gradients; those whose own are fine have nothing to show.
            if comm.get_rank() and all(map(math.isfinite, diagnosis.gradient_norms.values())):
                return ""
            start += images_of(batch)
        step = SavedStep(self.trainer.iter, comm.get_rank(), batch, random_state, autocast, diagnosis)
        return f"{start} {_sentences(diagnosis, earlier, of_what)}{self._saved(step)}"

    def _diagnosed(self, batch: BatchedInputs, random_state: Mapping[str, Tensor], autocast: str) -> Diagnosis:
        try:
            return diagnose(self._model, batch, random_state, autocast)
        except RuntimeError as error:  # such as for want of memory
            return Diagnosis(problem=f"the step couldn't be run again: {error}")

    def _saved(self, step: SavedStep) -> str:
        """Where the step is now, as a sentence."""
        path = self._folder / f"iteration_{step.iteration:07d}_process_{step.process}.pth"
        try:
            write_step(path, self._model, step)
        except OSError as error:
            return f"The batch couldn't be saved: {error}."
        return (
            f"The batch and the weights are in {path}: 'detr-d2 replay {shlex.quote(str(path))}' runs the step again."
        )


def _running_statistics(model: nn.Module) -> Iterator[Tensor]:
    """What a forward pass in training changes."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.training:
            yield from module.buffers(recurse=False)


def _sentences(diagnosis: Diagnosis, earlier: Mapping[str, float], of_earlier: str) -> str:
    text = f"The first output that isn't finite is that of {diagnosis.first}. " if diagnosis.first else ""
    norms, of_what = diagnosis.gradient_norms, "of this step"
    if not norms:
        norms, of_what = dict(earlier), of_earlier
    if norms:
        listed = ", ".join(f"{part} {norm:.3g}" for part, norm in norms.items())
        text += f"Gradient norms {of_what}: {listed}. "
    return text
