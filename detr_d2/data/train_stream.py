"""The images of a training, in batches: seed, process, number of processes and position decide what comes.

Whoever knows them can go on anywhere in the order, and every image is augmented there as it would have been.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from detectron2.data import build_detection_train_loader
from detectron2.utils import comm

from .workers import outlive_signals

logger = logging.getLogger(__name__)

#: What chance is for, as the second of the numbers that it follows from.
IMAGES, STEPS, LOADER = 1, 2, 3


class Draw(NamedTuple):
    """An image that a sampler drew.

    Args:
        entry: its index in the dataset.
        position: in the sampler's whole sequence, of which each process takes a part.
    """

    entry: int
    position: int


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Within, chance (``random``, ``numpy.random``, torch's on the CPU) follows from ``numbers``; then it is as before.

    Args:
        numbers: not negative; other numbers give other chance, whatever they have in common.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_chance(*numbers)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def seed_chance(*numbers: int) -> None:
    """Sets what :func:`seeded` sets, and leaves it so."""
    words = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))


def draws_of(sampler: Iterable[int], origin: int, rank: int, processes: int) -> Iterator[Draw]:
    """What a process draws from a position of the whole sequence on.

    Args:
        sampler: gives the indices of this process, as Detectron2's do: of ``processes`` neighbours in the sequence one.
        origin: position in the whole sequence.
        rank: of this process.
        processes: how many share the sequence.
    """
    first = max(0, -(-(origin - rank) // processes))
    positions = itertools.count(first * processes + rank, processes)
    return map(Draw, itertools.islice(sampler, first, None), positions)


def batches_of(draws: Iterator[Draw], size: int, is_wide: Sequence[bool] | None) -> Iterator[list[Draw]]:
    """Draws in batches.

    Args:
        draws: endless.
        size: of a batch.
        is_wide: whether the image of an index is wider than high, if a batch is to have images of one kind only: they
            need less padding. A batch comes when it is full, as with Detectron2's ``AspectRatioGroupedDataset``.
    """
    if is_wide is None:
        while True:
            yield list(itertools.islice(draws, size))
    waiting: dict[bool, list[Draw]] = {True: [], False: []}
    for draw in draws:
        kind = bool(is_wide[draw.entry])
        waiting[kind].append(draw)
        if len(waiting[kind]) == size:
            yield waiting[kind]
            waiting[kind] = []


class Plan(NamedTuple):
    """Which images are in which batch of a process.

    Args:
        sampler, origin, rank, processes: see :func:`draws_of`.
        size, is_wide: see :func:`batches_of`.
    """

    sampler: Iterable[int]
    origin: int
    rank: int
    processes: int
    size: int
    is_wide: Sequence[bool] | None

    def batches(self) -> Iterator[list[Draw]]:
        """From the beginning, without end."""
        draws = draws_of(self.sampler, self.origin, self.rank, self.processes)
        return batches_of(draws, self.size, self.is_wide)


class TrainingStream(IterableDataset[dict[str, Any]]):
    """The model's inputs, batch after batch, for a loader that puts ``batch_size`` neighbours together.

    Of as many neighbouring batches as the loader has workers each of them makes one, so that batches come in the same
    order with any number of workers.

    Args:
        entries: what the mapper is given, by index.
        mapper: makes the model's input of an entry; its chance follows from seed and position.
        plan: of the batches.
        seed: of the augmentation.
        skipped: so many batches come no more.
    """

    def __init__(
        self,
        entries: Sequence[Any],
        mapper: Callable[[Any], dict[str, Any]],
        plan: Plan,
        seed: int,
        skipped: int,
    ) -> None:
        self._entries, self._mapper, self._plan = entries, mapper, plan
        self._seed, self._skipped = seed, skipped

    def __iter__(self) -> Iterator[dict[str, Any]]:
        outlive_signals()
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for batch in itertools.islice(self._plan.batches(), self._skipped + number, None, workers):
            for draw in batch:
                with seeded(self._seed, IMAGES, draw.position):
                    found = self._mapper(self._entries[draw.entry])
                yield found


class TrainLoader:
    """An endless loader of batches, through Detectron2's own, that can go on where another one stopped.

    Args:
        entries: what the mapper is given, by index.
        mapper: makes the model's input of an entry.
        make_sampler: a Detectron2 sampler for a seed.
        batch_size: of all processes together.
        is_wide: see ``batches_of``.
        workers: processes that load images.
        seed: of augmentation and sampler.

    Raises:
        ConfigError: there is no such sampler.
    """

    def __init__(
        self,
        entries: Sequence[Any],
        mapper: Callable[[Any], dict[str, Any]],
        make_sampler: Callable[[int], Iterable[int]],
        batch_size: int,
        is_wide: Sequence[bool] | None,
        workers: int,
        seed: int,
    ) -> None:
        self._entries, self._mapper, self._make_sampler = entries, mapper, make_sampler
        self._batch_size, self._is_wide, self._workers = batch_size, is_wide, workers
        self.seed = seed
        self._origin = self._taken = 0
        self._sampler = make_sampler(seed)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        rank, processes, size = comm.get_rank(), comm.get_world_size(), self._batch_size // comm.get_world_size()
        plan = Plan(self._sampler, self._origin, rank, processes, size, self._is_wide)
        stream = TrainingStream(self._entries, self._mapper, plan, self.seed, self._taken)
        loader = build_detection_train_loader(
            stream,
            mapper=None,
            total_batch_size=self._batch_size,
            aspect_ratio_grouping=False,
            num_workers=self._workers,
        )
        # torch's loader draws a number, which a run that goes on would miss later.
        with seeded(self.seed, LOADER, rank):
            loaded = iter(loader)
        for batch in loaded:
            self._taken += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How to go on: plain numbers, the same in all processes."""
        return {"seed": self.seed, "origin": self._origin, "batches": self._taken} | self._layout()

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where the loader with this state stopped; to be called before the first batch.

        With other sizes of batches or another number of processes, images go on in their order where the other one
        stopped; some that had waited for a batch of their kind (``DATALOADER.ASPECT_RATIO_GROUPING``) are left out.
        """
        if state["seed"] != self.seed:
            self.seed = state["seed"]
            self._sampler = self._make_sampler(self.seed)
        self._origin, self._taken = state["origin"], state["batches"]
        if any(state[name] != value for name, value in self._layout().items()):
            self._origin, self._taken = self._origin + self._taken * state["batch_size"], 0
            logger.warning(
                "The run that goes on had batches of %d in %d processes; its images go on in their order.",
                state["batch_size"],
                state["processes"],
            )

    def _layout(self) -> dict[str, int]:
        """What decides, beside seed and position, on which images are in which batch."""
        grouped = int(self._is_wide is not None)
        return {"batch_size": self._batch_size, "processes": comm.get_world_size(), "grouped": grouped}
