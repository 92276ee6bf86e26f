"""The numbers of a training step: averaged over the processes, logged, and refused where they aren't finite."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detr_d2.data import Category
from detr_d2.errors import DivergenceError
from detr_d2.modeling import Denoising
from detr_d2.modeling.criterion import Sum, batch_means, loss_kind
from detr_d2.wording import some

from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage

LESS_DIVERGENCE = "Lower SOLVER.BASE_LR, keep SOLVER.CLIP_GRADIENTS on, or switch SOLVER.AMP.ENABLED off."
"""What to do about it, as the end of a message."""

NO_MATCHING = "the predictions aren't finite, so that loss_ce, loss_bbox and loss_giou can't be computed"
"""Of predictions that can't be matched; the matcher knows neither iteration nor images."""

_SHOWN = 4


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of each process's tensor; all of them have to call it, with tensors of one shape."""
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(values := values.clone())
        values /= comm.get_world_size()
    return values


def log_scalars(scalars: Mapping[str, Tensor]) -> None:
    """Puts metrics into the trainer's event storage, averaged over the processes as DETR does.

    Without a trainer there is no storage, and nothing to log to. With one, all processes have to call it, with the same
    names in the same order.

    Args:
        scalars: tensors of one element, all on one device; there is one transfer from it.
    """
    storage = _event_storage()
    if storage is None:
        return
    values = mean_over_processes(torch.stack([value.detach().float() for value in scalars.values()]))
    for name, value in zip(scalars, values.tolist(), strict=True):
        storage.put_scalar(name, value)


def is_due(period: int) -> bool:
    """Whether this process has to do in this iteration what is done every ``period`` ones; 0: never.

    Without a trainer there is no event storage, and nothing is due.
    """
    storage = _event_storage()
    return storage is not None and period > 0 and storage.iter % period == 0 and comm.is_main_process()


def put_training_image(
    item: Mapping[str, Any], prediction: Mapping[str, Any], categories: Sequence[Category], recipe: Mapping[str, Any]
) -> None:
    """Puts an image with its ground truth and its prediction into the trainer's event storage.

    Args:
        item: of the model's inputs.
        prediction: its result, at the item's size.
        categories, recipe: the model's.
    """
    from detr_d2.visualization import side_by_side  # drawing takes a while to import

    channel_order = recipe.get("INPUT.FORMAT", "RGB")
    side_by_side.put_training_image(item["image"], item["instances"], prediction, categories, channel_order)


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of those tensors that have NaN or infinity in them."""
    return [name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]


class DivergedElsewhere(DivergenceError):
    """Training has left the numbers in another process, with whose losses a step would be taken here, too."""


class DivergedGradients(DivergenceError):
    """Gradients aren't finite, while the losses are; no weight has been changed by them."""


class StepCounts(NamedTuple):
    """What the losses of a step are divided by, so that their scale is that of the batch of all processes.

    Args:
        query_weights: of the cross entropy, that a process has on average.
        targets: that a process has on average.
    """

    query_weights: float
    targets: float


class StepPart(NamedTuple):
    """Where a batch stands in a step that is made of several, whose losses are to add up to those of one batch.

    Args:
        number: of the part, from 0.
        counts: of the whole step, that a process has on average.
        noised_weights, matched, images: of the whole step in this process: the weights of the noised queries' cross
            entropy, the matched queries, and the images.
    """

    number: int
    counts: StepCounts
    noised_weights: float
    matched: float
    images: float

    @property
    def metric_counts(self) -> dict[str, float]:
        """What the criterion's metrics are divided by."""
        return {"class_error": max(self.matched, 1), "cardinality_error": self.images}


def counts_of(sums: Mapping[str, Sum]) -> StepCounts:
    """The counts of one process; 0 where ``sums`` is empty."""
    return StepCounts(*(sums[name].count if name in sums else 0.0 for name in ("loss_ce", "loss_bbox")))


def mean_losses(
    sums: Mapping[str, Sum], counts: StepCounts, denoising: Denoising | None, part: StepPart | None = None
) -> dict[str, Tensor]:
    """A batch's sums as means, unweighted, of the batch that all processes have together.

    Args:
        sums: of one process.
        counts: of all of them.
        denoising: the model's, which has the targets several times; None: no queries are noised.
        part: the batch is one of several of a step, and what is returned its share of the means; None: it is the step.
    """
    metric_counts, noised_weights = (None, None) if part is None else (part.metric_counts, part.noised_weights)
    noised = {name: each for name, each in sums.items() if "_dn" in name}
    dense = {name: each for name, each in sums.items() if name.endswith("_dense")}
    learned = {name: each for name, each in sums.items() if name not in noised and name not in dense}
    targets = max(counts.targets, 1.0)
    losses = batch_means(learned, targets, counts.query_weights, metric_counts) | batch_means(dense, targets, targets)
    return losses if denoising is None else losses | batch_means(noised, targets * denoising.groups, noised_weights)


def agree_on_counts(
    sums: Mapping[str, Sum],
    kinds: Collection[str],
    problem: str,
    batched_inputs: Sequence[Mapping[str, Any]],
    device: torch.device,
) -> StepCounts:
    """The counts of all processes, which all have to call it, once it is known that all can take the step.

    Args:
        sums: of this process's batch; there is one transfer from the device.
        kinds: of the losses that are minimised.
        problem: why there are no sums, as a sentence without its full stop; empty: there are.
        batched_inputs: the model's.
        device: of the sums.

    Raises:
        DivergenceError: in all processes, as the losses of one can't be used; where that is this one, it names losses,
            iteration and images.
    """
    trained = {name: each.mean.detach() for name, each in sums.items() if loss_kind(name) in kinds}
    values = torch.stack([value.float().reshape(()) for value in [torch.zeros((), device=device), *trained.values()]])
    is_wrong = torch.ones((), device=device) if problem else 1 - values.isfinite().all().float()
    counts = counts_of(sums)
    shared = torch.cat([is_wrong[None], torch.tensor(counts, dtype=torch.float32).to(device)])
    wrong, query_weights, targets = mean_over_processes(shared).tolist()
    if not wrong:  # alone, nothing is rounded
        return counts if comm.get_world_size() == 1 else StepCounts(query_weights, targets)
    if not problem:
        listed = [f"{name} is {value}" for name, value in zip(trained, values.tolist()[1:]) if not math.isfinite(value)]
        problem = some(listed, _SHOWN)
    if not problem:
        raise DivergedElsewhere("the losses of another process aren't finite")
    raise _divergence(problem, batched_inputs)


@contextmanager
def explaining_divergence(batched_inputs: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Says of predictions that can't be matched where that was; the matcher knows neither iteration nor images.

    Args:
        batched_inputs: the model's.

    Raises:
        DivergenceError: instead of the matcher's ``FloatingPointError``.
    """
    try:
        yield
    except FloatingPointError as error:
        raise _divergence(NO_MATCHING, batched_inputs) from error


def refuse_non_finite(gradient_norm: Tensor) -> None:
    """Refuses a step before it changes weights.

    Args:
        gradient_norm: () of all gradients, of which one that isn't finite makes another one.

    Raises:
        DivergedGradients: it isn't finite.
    """
    norm = float(gradient_norm)
    if not math.isfinite(norm):
        raise DivergedGradients(_message(f"the norm of the gradients is {norm}, while the losses are finite"))


def images_of(batched_inputs: Sequence[Mapping[str, Any]]) -> str:
    """The images of a batch by the "file_name" of each, as a sentence with a space before it; empty: none has one."""
    names = [str(item["file_name"]) for item in batched_inputs if "file_name" in item]
    return f" Images of the batch: {', '.join(names)}." if names else ""


def _divergence(what: str, batched_inputs: Sequence[Mapping[str, Any]]) -> DivergenceError:
    """The error to raise.

    Args:
        what: isn't finite, as a sentence without its full stop.
        batched_inputs: the model's.
    """
    return DivergenceError(_message(what, images_of(batched_inputs)))


def _message(what: str, images: str = "") -> str:
    storage = _event_storage()
    when = "" if storage is None else f" at iteration {storage.iter}"
    return f"The training diverged{when}: {what}.{images} {LESS_DIVERGENCE}"


def _event_storage() -> EventStorage | None:
    """The trainer's; None where there is no training."""
    try:
        return get_event_storage()
    except AssertionError:
        return None
