"""An independently written subset of Detectron2's API; not Detectron2. From names of datasets to data loaders."""

import itertools
import logging
import operator
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler

from detr_d2.errors import ConfigError

from detectron2.config import CfgNode, configurable
from detectron2.utils import comm

from .catalog import DatasetCatalog, MetadataCatalog
from .common import AspectRatioGroupedDataset, MappedList, SampledDataset
from .samplers import InferenceSampler, TrainingSampler

logger = logging.getLogger(__name__)
Records = list[dict[str, Any]]
Mapper = Callable[[dict[str, Any]], Any]


def get_detection_dataset_dicts(names: str | list[str], filter_empty: bool = True) -> Records:
    """The dicts of all named datasets; ``filter_empty`` leaves out those whose "annotations" are none, or only crowds.

    Raises:
        KeyError: a name isn't registered.
        AssertionError: a dataset is empty, or nothing is left of them.
        ValueError: datasets with "annotations" have different ``thing_classes``.
    """
    names = [names] if isinstance(names, str) else list(names)
    assert len(names), "No dataset is named; set DATASETS.TRAIN or DATASETS.TEST."
    datasets = [DatasetCatalog.get(name) for name in names]
    for name, dicts in zip(names, datasets):
        assert len(dicts), f"Dataset '{name}' is empty!"
    records = list(itertools.chain.from_iterable(datasets))
    if "annotations" in records[0]:
        classes = [MetadataCatalog.get(name).get("thing_classes") for name in names]
        if any(other != classes[0] for other in classes):
            raise ValueError(f"Datasets have different metadata 'thing_classes'! They are {', '.join(names)}.")
        if filter_empty:
            usable = [r for r in records if not all(entry.get("iscrowd", 0) for entry in r["annotations"])]
            removed = len(records) - len(usable)
            logger.info(f"Removed {removed} images with no usable annotations. {len(usable)} images left.")
            records = usable
    assert len(records), f"No valid data found in {','.join(names)}."
    return records


def _train_loader_from_config(cfg: CfgNode, mapper: Mapper, *, sampler: Sampler | None = None) -> dict[str, Any]:
    dataset = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    if (name := cfg.DATALOADER.SAMPLER_TRAIN) != "TrainingSampler":
        raise ConfigError(f"DATALOADER.SAMPLER_TRAIN is {name!r}; without Detectron2 there is only 'TrainingSampler'.")
    return {
        "dataset": dataset,
        "sampler": TrainingSampler(len(dataset), seed=cfg.SEED) if sampler is None else sampler,
        "mapper": mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Any,
    *,
    mapper: Mapper | None,
    sampler: Sampler | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
) -> Iterable[Records]:
    """An endless loader of batches; ``build_detection_train_loader(cfg, mapper=...)`` takes the rest from a config.

    Args:
        mapper: makes of each dict what the model gets; None: it is that, also if it comes from an iterable dataset.
        total_batch_size: over all processes, whose number must divide it (AssertionError).
        aspect_ratio_grouping: batches have only wide, or only tall and square images.
    """
    processes = comm.get_world_size()
    assert total_batch_size > 0 and total_batch_size % processes == 0, (
        f"Total batch size ({total_batch_size}) must be divisible by the number of gpus ({processes})."
    )
    size = total_batch_size // processes
    entries: Any = dataset if mapper is None else MappedList(dataset, mapper)
    if not isinstance(entries, IterableDataset):
        entries = SampledDataset(entries, sampler or TrainingSampler(len(entries)), block=size)
    options: dict[str, Any] = {"num_workers": num_workers, "worker_init_fn": _seed_worker}
    if not aspect_ratio_grouping:
        return DataLoader(entries, batch_size=size, drop_last=True, collate_fn=list, **options)
    # Batches of one, taken apart again: the grouping happens in this process.
    return AspectRatioGroupedDataset(DataLoader(entries, collate_fn=operator.itemgetter(0), **options), size)


def _test_loader_from_config(cfg: CfgNode, dataset_name: str, mapper: Mapper) -> dict[str, Any]:
    records = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    return {"dataset": records, "mapper": mapper, "num_workers": cfg.DATALOADER.NUM_WORKERS}


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Records, *, mapper: Mapper, batch_size: int = 1, num_workers: int = 0
) -> DataLoader:
    """Each entry once, in order; or ``build_detection_test_loader(cfg, name, mapper=...)``."""
    sampler, entries = InferenceSampler(len(dataset)), MappedList(dataset, mapper)
    return DataLoader(entries, batch_size, sampler=sampler, num_workers=num_workers, collate_fn=list)


def _seed_worker(worker_id: int) -> None:
    """Give a worker random numbers of its own, which follow from the main process's seed."""
    seed = torch.initial_seed() % 2**31 + worker_id
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(seed)
