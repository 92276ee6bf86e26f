"""An independently written subset of Detectron2's API; not Detectron2. Links of the chain from dicts to batches."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info


class MappedList(Dataset):
    """A list with a function over its entries, which are pickled into one tensor that worker processes needn't copy."""

    def __init__(self, entries: list, map_func: Callable[[Any], Any]) -> None:
        pickled = [np.frombuffer(pickle.dumps(entry, protocol=-1), dtype=np.uint8) for entry in entries]
        self._starts = np.cumsum([0] + [len(entry) for entry in pickled])
        self._bytes = torch.from_numpy(np.concatenate(pickled))
        self._map_func = map_func

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> Any:
        return self._map_func(pickle.loads(self._bytes[self._starts[index] : self._starts[index + 1]].numpy().data))


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
    """Batches of either wide images, or tall and square ones (by "width", "height"): they need less padding."""

    def __init__(self, dataset: Iterable[dict], batch_size: int) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._waiting: dict[bool, list[dict]] = {True: [], False: []}

    def __iter__(self) -> Iterator[list[dict]]:
        for entry in self._dataset:
            is_wide = entry["width"] > entry["height"]
            self._waiting[is_wide].append(entry)
            if len(self._waiting[is_wide]) == self._batch_size:
                batch, self._waiting[is_wide] = self._waiting[is_wide], []
                yield batch
