"""An independently written subset of Detectron2's API; not Detectron2.

The links of the chain from a list of dicts to batches.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info


class SerializedList(Dataset):
    """A list, pickled into one tensor: worker processes read it without a copy of their own."""

    def __init__(self, entries: list) -> None:
        pickled = [np.frombuffer(pickle.dumps(entry, protocol=-1), dtype=np.uint8) for entry in entries]
        self._ends = torch.from_numpy(np.cumsum([len(entry) for entry in pickled], dtype=np.int64))
        self._bytes = torch.from_numpy(np.concatenate(pickled))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        start = int(self._ends[index - 1]) if index else 0
        return pickle.loads(self._bytes[start : int(self._ends[index])].numpy().data)


class MapDataset(Dataset):
    """A dataset with a function over its entries.

    Where the function returns None, another entry, chosen at random from those not known to fail, takes its place.
    """

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._map_func = map_func
        self._rng = random.Random(42)
        self._candidates = set(range(len(dataset)))

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        index = int(index)
        while (entry := self._map_func(self._dataset[index])) is None:
            self._candidates.discard(index)
            index = self._rng.choice(sorted(self._candidates))
        self._candidates.add(index)
        return entry


class SampledDataset(IterableDataset):
    """A dataset in the order of a sampler, divided among the data loader's workers in blocks of ``block`` entries."""

    def __init__(self, dataset: Any, sampler: Sampler, block: int) -> None:
        self._dataset = dataset
        self._sampler = sampler
        self._block = block

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        for position, index in enumerate(self._sampler):
            if worker is None or position // self._block % worker.num_workers == worker.id:
                yield self._dataset[index]


class AspectRatioGroupedDataset(IterableDataset):
    """Batches of either wide pictures, or tall and square ones (by "width", "height"): they need less padding."""

    def __init__(self, dataset: Iterable[dict], batch_size: int, collate_fn: Callable[[list], Any]) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._collate_fn = collate_fn
        self._waiting: dict[bool, list[dict]] = {True: [], False: []}

    def __iter__(self) -> Iterator[Any]:
        for entry in self._dataset:
            is_wide = entry["width"] > entry["height"]
            self._waiting[is_wide].append(entry)
            if len(self._waiting[is_wide]) == self._batch_size:
                batch, self._waiting[is_wide] = self._waiting[is_wide], []
                yield self._collate_fn(batch)
