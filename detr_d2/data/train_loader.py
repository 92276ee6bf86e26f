"""The images of a training, in batches: from the config to a loader that can go on anywhere in the order.

Seed, process, number of processes and position decide what comes, and every image is augmented as it would have been.
Rare classes may come more often, by repeat factors over segments.

Source: Gupta et al. 2019, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", section 5 and appendix B.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, Sampler, get_worker_info

from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm

from ..errors import ConfigError
from .catalogs import categories_of
from .mapper import DetrPanopticDatasetMapper
from .mixing import MixingMapper, PackedRecords, build_mixes
from .registration import segments_of

logger = logging.getLogger(__name__)

#: What chance is for, as the second of the numbers that it follows from.
IMAGES, STEPS, LOADER = 1, 2, 3
#: So many of the rarest classes are named in the log.
MOST_LOGGED = 20


def build_train_loader(cfg: CfgNode) -> TrainLoader:
    """Detectron2's training loader over ``DATASETS.TRAIN``, with this project's mapper, mixes and repeat factors.

    ``DATALOADER.SAMPLER_TRAIN`` is one of Detectron2's names; "RepeatFactorTrainingSampler" counts panoptic segments.

    Raises:
        ConfigError: keys of ``INPUT`` or ``DATALOADER`` that make no sense.
        DatasetError, MissingFileError: a dataset that can't be read.
    """
    return TrainLoader(cfg)


def build_train_mapper(
    cfg: CfgNode, records: list[dict[str, Any]]
) -> tuple[Callable[[Any], dict[str, Any]], list[Any]]:
    """What makes the model's input of an entry, and the entries, one for each record; raises ConfigErrors."""
    mapper = DetrPanopticDatasetMapper(cfg, is_train=True)
    mixes = build_mixes(cfg)
    if not mixes:
        return mapper, records
    # The mapper has to reach any image, so it keeps the records, and is handed their numbers.
    return MixingMapper(mapper, records, mixes), list(range(len(records)))


def _sampler_maker(cfg: CfgNode, records: list[dict[str, Any]]) -> Callable[[int], Iterable[int]]:
    """What ``DATALOADER.SAMPLER_TRAIN`` names, for a seed that counts where the sampler has none from the config."""
    name, threshold = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.REPEAT_THRESHOLD
    if name == "TrainingSampler":
        return lambda seed: TrainingSampler(len(records), seed=cfg.SEED)
    if name != "RepeatFactorTrainingSampler":
        return lambda seed: _sampler_of_detectron2(cfg, len(records), seed)
    if not 0 < threshold <= 1:
        raise ConfigError(
            f"DATALOADER.REPEAT_THRESHOLD={threshold} with SAMPLER_TRAIN={name}; allowed is a part of all images, "
            "above 0 and at most 1. Classes in fewer images than that are repeated; 0.01 to 0.1 are usual."
        )
    names = [category.name for category in categories_of(cfg.DATASETS.TRAIN[0])]
    factors = repeat_factors(records, threshold, cfg.DATALOADER.REPEAT_SQRT, names)
    return lambda seed: RepeatFactorSampler(factors, cfg.SEED)


def _sampler_of_detectron2(cfg: CfgNode, size: int, seed: int) -> Iterable[int]:
    """A sampler that only an installed Detectron2 has, which makes it from the config, with a seed by chance."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False  # so that the loader has the sampler in a known place
    with seeded(seed):
        loader: Any = build_detection_train_loader(cfg, mapper=lambda entry: entry, dataset=list(range(size)))
    sampler: Iterable[int] = loader.dataset.sampler
    return sampler


class TrainLoader:
    """An endless loader of batches, through Detectron2's own, that can go on where another one stopped."""

    def __init__(self, cfg: CfgNode) -> None:
        records = get_detection_dataset_dicts(
            list(cfg.DATASETS.TRAIN), filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        )
        self._mapper, entries = build_train_mapper(cfg, records)
        self._entries = PackedRecords(entries)
        self._batch_size, self._workers = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS
        is_wide = [record.get("width", 0) > record.get("height", 0) for record in records]
        self._is_wide = is_wide if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        self._origin = self._taken = 0
        self._make_sampler = _sampler_maker(cfg, records)
        self._sampler = self._make_sampler(self.seed)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        rank, processes, size = comm.get_rank(), comm.get_world_size(), self._batch_size // comm.get_world_size()
        batches = functools.partial(_batches, self._sampler, self._origin, rank, processes, size, self._is_wide)
        stream = _Stream(self._entries, self._mapper, batches, self.seed, self._taken)
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


def _batches(
    sampler: Iterable[int], origin: int, rank: int, processes: int, size: int, is_wide: Sequence[bool] | None
) -> Iterator[list[tuple[int, int]]]:
    """A process's batches without end, from a position of the whole sequence on: index and position of each image.

    The sampler gives the indices of this process, of ``processes`` neighbours in the sequence one. With ``is_wide``, of
    each index, a batch has only images that are wide or only others, which need less padding; it comes when it is full,
    as with Detectron2's ``AspectRatioGroupedDataset``.
    """
    first = max(0, -(-(origin - rank) // processes))
    positions = itertools.count(first * processes + rank, processes)
    waiting: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for index, position in zip(itertools.islice(sampler, first, None), positions):
        batch = waiting[is_wide is not None and bool(is_wide[index])]
        batch.append((index, position))
        if len(batch) == size:
            yield batch.copy()
            batch.clear()


class _Stream(IterableDataset[dict[str, Any]]):
    """The model's inputs, batch after batch, for a loader that puts ``batch_size`` neighbours together.

    Of as many neighbouring batches as the loader has workers each of them makes one, so that batches come in the same
    order with any number of workers. The chance of the mapper follows from seed and position.
    """

    def __init__(
        self,
        entries: Sequence[Any],
        mapper: Callable[[Any], dict[str, Any]],
        batches: Callable[[], Iterator[list[tuple[int, int]]]],
        seed: int,
        skipped: int,
    ) -> None:
        self._entries, self._mapper, self._batches, self._seed, self._skipped = entries, mapper, batches, seed, skipped

    def __iter__(self) -> Iterator[dict[str, Any]]:
        _outlive_signals()
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for batch in itertools.islice(self._batches(), self._skipped + number, None, workers):
            for index, position in batch:
                with seeded(self._seed, IMAGES, position):
                    found = self._mapper(self._entries[index])
                yield found


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Within, chance (``random``, ``numpy.random``, torch's on the CPU) follows from ``numbers``; then it is as before.

    The numbers aren't negative; other ones give other chance, whatever they have in common.
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


def repeat_factors(
    records: Sequence[dict[str, Any]], threshold: float, sqrt: bool = True, names: Sequence[str] = ()
) -> np.ndarray:
    """How often each image shall come in an epoch, on average: (N,) float64, each at least 1.

    A class that a part f of the images shows has the factor max(1, root of threshold / f); an image has the highest
    of its classes'. Crowds don't count, as they aren't trained on.

    Args:
        records: dataset dicts with ``segments_info`` or ``annotations``.
        threshold: classes in a larger part of the images aren't repeated; 0: none is.
        sqrt: take the root; else threshold / f itself.
        names: of the classes, for the log.
    """
    shown = [classes_of(record) for record in records]
    counts = Counter(itertools.chain.from_iterable(shown))
    wanted = {number: threshold * len(records) / count for number, count in counts.items()}
    factors = {number: max(1.0, value**0.5 if sqrt else value) for number, value in wanted.items()}
    rare = sorted((number for number, factor in factors.items() if factor > 1), key=lambda number: counts[number])
    logger.info("%d of %d classes are rarer than %g; their images come more often.", len(rare), len(counts), threshold)
    for number in rare[:MOST_LOGGED]:
        name = names[number] if number < len(names) else f"class {number}"
        logger.info("%s: in %d of %d images, %.2f times", name, counts[number], len(records), factors[number])
    return np.array([max((factors[number] for number in classes), default=1.0) for classes in shown])


def classes_of(record: dict[str, Any]) -> set[int]:
    """The contiguous ids of the classes that an image's targets have."""
    return {segment["category_id"] for segment in segments_of(record) if not segment.get("iscrowd", 0)}


class RepeatFactorSampler(Sampler[int]):
    """Images in a new order each epoch, without end, each as often as its factor says, on average.

    A factor of 1.3 is once in seven epochs of ten and twice in three, by chance. Every process takes its own share of
    one sequence, which ``seed`` decides, or chance where it is None.
    """

    def __init__(self, factors: np.ndarray, seed: int | None = None) -> None:
        self._factors = torch.as_tensor(factors, dtype=torch.float64)
        self._seed = int(comm.shared_random_seed() if seed is None else seed)
        self._rank, self._num_processes = comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self._indices(), self._rank, None, self._num_processes)

    def _indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed)
        numbers = torch.arange(len(self._factors))
        while True:
            chance = torch.rand(len(self._factors), generator=generator, dtype=torch.float64)
            times = (self._factors + chance).floor().long()
            epoch = numbers.repeat_interleave(times)
            yield from epoch[torch.randperm(len(epoch), generator=generator)].tolist()


class OutlivingSignals:
    """A mapper whose workers leave Ctrl-C and SIGTERM, which the terminal or a scheduler sends to all, to their parent.

    It ends them when it ends itself; until then it needs their images, to finish what it does.
    """

    def __init__(self, mapper: Callable[[Any], dict[str, Any]]) -> None:
        self._mapper = mapper

    def __call__(self, entry: Any) -> dict[str, Any]:
        """What the mapper makes of an entry."""
        _outlive_signals()
        return self._mapper(entry)


def _outlive_signals() -> None:
    """In a worker of a loader: nobody but the parent ends it. Elsewhere nothing changes."""
    if get_worker_info() is not None:
        _leave_signals_to_parent()


@functools.cache
def _leave_signals_to_parent() -> None:
    """Once in each process; only a thread that waits for a signal learns who sent it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent:
            os._exit(0)
