"""An independently written subset of Detectron2's API; not Detectron2.

From names of datasets to data loaders.
"""

from __future__ import annotations

import itertools
import logging
import operator
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from detectron2.config import CfgNode, configurable
from detectron2.utils import comm

from .catalog import DatasetCatalog, MetadataCatalog
from .common import AspectRatioGroupedDataset, MapDataset, SampledDataset, SerializedList
from .dataset_mapper import DatasetMapper
from .samplers import InferenceSampler, RepeatFactorTrainingSampler, TrainingSampler

logger = logging.getLogger(__name__)


def get_detection_dataset_dicts(names: str | list[str], filter_empty: bool = True) -> list[dict[str, Any]]:
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


def _train_loader_from_config(
    cfg: CfgNode, mapper: Callable | None = None, *, dataset: Any = None, sampler: Sampler | None = None
) -> dict[str, Any]:
    if dataset is None:
        dataset = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    return {
        "dataset": dataset,
        "sampler": _training_sampler(cfg, dataset) if sampler is None else sampler,
        "mapper": DatasetMapper(cfg, True) if mapper is None else mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


def _training_sampler(cfg: CfgNode, dataset: Any) -> Sampler:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    logger.info(f"Using training sampler {name}")
    if name == "TrainingSampler":
        return TrainingSampler(len(dataset), seed=cfg.SEED)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)
    raise ValueError(f"Unknown training sampler: {name}; allowed are TrainingSampler, RepeatFactorTrainingSampler")


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Any,
    *,
    mapper: Callable[[dict[str, Any]], Any],
    sampler: Sampler | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
    drop_last: bool = True,
    seed: int | None = None,
    **kwargs: Any,
) -> Iterable[Any]:
    """An endless loader of batches; ``build_detection_train_loader(cfg, mapper=...)`` takes the rest from a config.

    Args:
        dataset: a list of dicts, or a torch dataset with a length.
        mapper: makes of each dict what the model gets; None skips it.
        total_batch_size: over all processes, whose number must divide it (AssertionError).
        aspect_ratio_grouping: batches have only wide, or only tall and square pictures.
        seed: of the workers' random numbers.
        kwargs: for torch's ``DataLoader``.
    """
    processes = comm.get_world_size()
    assert total_batch_size > 0 and total_batch_size % processes == 0, (
        f"Total batch size ({total_batch_size}) must be divisible by the number of gpus ({processes})."
    )
    batch_size = total_batch_size // processes
    dataset = _mapped(dataset, mapper)
    sampler = TrainingSampler(len(dataset)) if sampler is None else sampler
    assert isinstance(sampler, Sampler), f"Expect a Sampler but got {type(sampler)}"
    logger.info(f"Making batched data loader with batch_size={batch_size}")
    collate_fn = _same_batch if collate_fn is None else collate_fn
    kwargs.update(num_workers=num_workers, worker_init_fn=_seed_worker)
    kwargs["generator"] = None if seed is None else torch.Generator().manual_seed(seed)
    ordered = SampledDataset(dataset, sampler, block=batch_size)
    if not aspect_ratio_grouping:
        return DataLoader(ordered, batch_size=batch_size, drop_last=drop_last, collate_fn=collate_fn, **kwargs)
    assert drop_last, "Aspect ratio grouping will drop incomplete batches."
    # Batches of one, taken apart again: the grouping happens in this process.
    single = DataLoader(ordered, collate_fn=operator.itemgetter(0), **kwargs)
    return AspectRatioGroupedDataset(single, batch_size, collate_fn)


def _test_loader_from_config(
    cfg: CfgNode, dataset_name: str | list[str], mapper: Callable | None = None
) -> dict[str, Any]:
    return {
        "dataset": get_detection_dataset_dicts(dataset_name, filter_empty=False),
        "mapper": DatasetMapper(cfg, False) if mapper is None else mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Any,
    *,
    mapper: Callable[[dict[str, Any]], Any],
    sampler: Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
) -> DataLoader:
    """Each entry once, in order; or ``build_detection_test_loader(cfg, name, mapper=...)``. Arguments as above."""
    dataset = _mapped(dataset, mapper)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=InferenceSampler(len(dataset)) if sampler is None else sampler,
        num_workers=num_workers,
        collate_fn=_same_batch if collate_fn is None else collate_fn,
    )


def _mapped(dataset: Any, mapper: Callable | None) -> Any:
    if isinstance(dataset, list):
        dataset = SerializedList(dataset)
    return dataset if mapper is None else MapDataset(dataset, mapper)


def _same_batch(batch: list) -> list:
    return batch


def _seed_worker(worker_id: int) -> None:
    """Give a worker random numbers of its own, which follow from the main process's seed."""
    seed = torch.initial_seed() % 2**31 + worker_id
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
