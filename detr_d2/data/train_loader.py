"""The loader of a training, from the config; rare classes may come more often, by repeat factors over segments.

Source: Gupta et al. 2019, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", section 5 and appendix B.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm

from ..errors import ConfigError
from .catalogs import categories_of
from .mapper import DetrPanopticDatasetMapper
from .mixing import MixingMapper, PackedRecords, build_mixes
from .registration import segments_of
from .train_stream import TrainLoader, seeded

logger = logging.getLogger(__name__)


def build_train_loader(cfg: CfgNode) -> TrainLoader:
    """Detectron2's training loader over ``DATASETS.TRAIN``, with this project's mapper, mixes and repeat factors.

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


#: So many of the rarest classes are named in the log.
MOST_LOGGED = 20


def repeat_factors(
    records: Sequence[dict[str, Any]], threshold: float, sqrt: bool = True, names: Sequence[str] = ()
) -> np.ndarray:
    """How often each image shall come in an epoch, on average.

    A class that a part f of the images shows has the factor max(1, root of threshold / f); an image has the highest
    of its classes'. Crowds don't count, as they aren't trained on.

    Args:
        records: dataset dicts with ``segments_info`` or ``annotations``.
        threshold: classes in a larger part of the images aren't repeated; 0: none is.
        sqrt: take the root; else threshold / f itself.
        names: of the classes, for the log.

    Returns:
        (N,) float64, each at least 1.
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
    one sequence.

    Args:
        factors: (N,), what :func:`repeat_factors` returns.
        seed: of the sequence; None: one by chance, the same for all processes.
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
