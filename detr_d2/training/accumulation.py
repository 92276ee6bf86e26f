"""Gradient accumulation: a step's batch in several parts, one after the other, in the memory of one of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detr_d2.structures import BatchedInputs
from detr_d2.training_step import StepCounts, StepPart, log_scalars, mean_over_processes

from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

if TYPE_CHECKING:
    from detr_d2.meta_arch import DetrPanoptic


def accumulated_steps(cfg: CfgNode, trainer: Any) -> AccumulatedSteps | None:
    """The steps of a Detectron2 trainer that is being built; None: ``SOLVER.ACCUMULATE_BATCHES`` is 1, its own do."""
    if cfg.SOLVER.ACCUMULATE_BATCHES == 1:
        return None
    scaler = getattr(getattr(trainer, "_trainer", trainer), "grad_scaler", None)
    return AccumulatedSteps(cfg, trainer.model, trainer.data_loader, trainer.optimizer, scaler)


class AccumulatedSteps:
    """Steps whose gradients are summed up over parts of the batch, and equal those of the whole batch.

    Losses are divided by the counts of the whole step, which are known before its first part is computed. What clips
    the gradients and looks whether they are finite sees them once, summed up. Processes exchange them once, too.

    Args:
        cfg: ``SOLVER.ACCUMULATE_BATCHES`` and ``SOLVER.AMP.ENABLED`` are looked at.
        model: the trainer's, perhaps for several processes.
        loader: gives whole batches.
        optimizer: of the model.
        scaler: of the losses, with ``SOLVER.AMP.ENABLED``.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        loader: Iterable[BatchedInputs],
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self._parts, self._model, self._loader = cfg.SOLVER.ACCUMULATE_BATCHES, model, loader
        self._plain = cast("DetrPanoptic", getattr(model, "module", model))
        self._device, self._optimizer = self._plain.device, optimizer
        self._is_mixed = cfg.SOLVER.AMP.ENABLED
        self._scaler = torch.amp.GradScaler(enabled=False) if scaler is None else scaler
        self._batches: Iterator[BatchedInputs] | None = None

    def take(self) -> None:
        """Take a step.

        Raises:
            DivergenceError: losses of a part, or the gradients, aren't finite; no weight has been changed.
        """
        start = time.perf_counter()
        self._batches = iter(self._loader) if self._batches is None else self._batches
        batch = next(self._batches)
        waited = time.perf_counter() - start
        size = len(batch) // self._parts
        batches = [batch[i : i + size] for i in range(0, len(batch), size)]
        logged: dict[str, Tensor] = {}
        for some, part in zip(batches, step_parts(self._plain, batches), strict=True):
            found = self._add_gradients(some, part, is_last=part.number + 1 == len(batches))
            logged = {name: value + logged[name] if logged else value for name, value in found.items()}
        _log(logged, waited)
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _add_gradients(self, batch: BatchedInputs, part: StepPart, is_last: bool) -> dict[str, Tensor]:
        """The losses' shares of a part, whose gradients are added to those of the parts before."""
        waits = isinstance(self._model, DistributedDataParallel) and not is_last
        with cast(Any, self._model).no_sync() if waits else nullcontext():
            with torch.autocast(self._device.type, enabled=self._is_mixed):
                found = self._model(batch, part)
                total = torch.stack([value for name, value in found.items() if name.startswith("loss_")]).sum()
            if part.number == 0:
                self._optimizer.zero_grad()
            self._scaler.scale(total).backward()
        return {name: value.detach() for name, value in found.items()}


def step_parts(model: DetrPanoptic, batches: Sequence[BatchedInputs]) -> list[StepPart]:
    """Where each of the batches stands in the step that they make; all processes have to call it.

    Args:
        model: whose losses are to be divided.
        batches: with "instances", of this process.
    """
    groups = 0 if model.denoising is None else model.denoising.groups
    weight, num_queries = model.criterion.no_object_weight, model.detr.query_embed.num_embeddings
    parts = [[len(item["instances"]) for item in batch] for batch in batches]
    images = [count for part in parts for count in part]
    targets, matched = sum(images), sum(min(count, num_queries) for count in images)
    query_weights = matched + weight * (num_queries * len(images) - matched)
    # A part has as many places for noised queries as its largest image has segments; the rest of them is no-object.
    noised = groups * sum(sum(part) + weight * (len(part) * max(1, *part) - sum(part)) for part in parts)
    shared = torch.tensor([query_weights, targets], dtype=torch.float32)
    counts = StepCounts(*mean_over_processes(shared.to(model.device)).tolist())
    return [StepPart(number, counts, noised, matched, len(images)) for number in range(len(batches))]


def _log(logged: dict[str, Tensor], waited: float) -> None:
    """Losses, their sum and metrics, averaged over the processes, and the slowest one's wait for data."""
    storage = get_event_storage()
    storage.put_scalar("rank_data_time", waited)
    if gathered := comm.gather(waited):
        storage.put_scalar("data_time", max(gathered))
    total = torch.stack([value for name, value in logged.items() if name.startswith("loss_")]).sum()
    log_scalars({"total_loss": total, **logged})
