"""The loader of a training, from the config."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm

from ..errors import ConfigError
from .catalogs import categories_of
from .mapper import DetrPanopticDatasetMapper
from .repeat_factor import RepeatFactorSampler, repeat_factors
from .ricap import PackedRecords, RicapMapper
from .train_stream import LOADER, Draw, TrainingStream, batches_of, draws_of, seeded

logger = logging.getLogger(__name__)


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

        def batches() -> Iterator[list[Draw]]:
            return batches_of(draws_of(self._sampler, self._origin, rank, processes), size, self._is_wide)

        stream = TrainingStream(self._entries, self._mapper, batches, self.seed, self._taken)
        loader = build_detection_train_loader(
            stream,
            mapper=None,
            total_batch_size=self._batch_size,
            aspect_ratio_grouping=False,
            num_workers=self._workers,
        )
        with seeded(
            self.seed, LOADER, rank
        ):  # torch's loader draws a number, which a run that goes on would miss later
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


def build_train_loader(cfg: CfgNode) -> TrainLoader:
    """Detectron2's training loader over ``DATASETS.TRAIN``, with this project's mapper, RICAP and repeat factors.

    ``DATALOADER.SAMPLER_TRAIN`` is one of Detectron2's names; "RepeatFactorTrainingSampler" counts panoptic segments.

    Raises:
        ConfigError: keys of ``INPUT`` or ``DATALOADER`` that make no sense.
        DatasetError, MissingFileError: a dataset that can't be read.
    """
    records = get_detection_dataset_dicts(
        list(cfg.DATASETS.TRAIN), filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    )
    mapper, entries = build_train_mapper(cfg, records)
    is_wide = [record.get("width", 0) > record.get("height", 0) for record in records]
    return TrainLoader(
        entries=PackedRecords(entries),
        mapper=mapper,
        make_sampler=_sampler_maker(cfg, records),
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        is_wide=is_wide if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None,
        workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
    )


def build_train_mapper(
    cfg: CfgNode, records: list[dict[str, Any]]
) -> tuple[Callable[[Any], dict[str, Any]], list[Any]]:
    """What makes the model's input of an entry, and the entries: one for each record.

    Raises:
        ConfigError: keys of ``INPUT`` that make no sense.
    """
    mapper = DetrPanopticDatasetMapper(cfg, is_train=True)
    if not cfg.INPUT.RICAP.ENABLED:
        return mapper, records
    # The mapper has to reach any image, so it keeps the records, and is handed their numbers.
    return RicapMapper(mapper, records, cfg.INPUT.RICAP.PROB, cfg.INPUT.RICAP.BETA), list(range(len(records)))


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
