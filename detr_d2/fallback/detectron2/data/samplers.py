"""An independently written subset of Detectron2's API; not Detectron2.

Which entries of a dataset come next; every process of a training takes its own share.
"""

import itertools
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from detectron2.utils import comm


class TrainingSampler(Sampler):
    """All of ``size`` entries, in a new order each epoch, without end.

    Without a seed, there is a random one that all processes share. Sizes below 1 are a ValueError.
    """

    def __init__(self, size: int, *, seed: int | None = None) -> None:
        if size <= 0:
            raise ValueError(f"TrainingSampler(size=) expects a positive int. Got {size}.")
        self._size = size
        self._seed = int(comm.shared_random_seed() if seed is None else seed)
        self._share = comm.get_rank(), None, comm.get_world_size()  # which workers of a loader don't know

    def _indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            yield from torch.randperm(self._size, generator=generator).tolist()

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self._indices(), *self._share)


class InferenceSampler(Sampler):
    """Each of ``size`` entries once: every process takes a run of neighbours, the first ones one more if needed."""

    def __init__(self, size: int) -> None:
        self._local_indices = torch.arange(size).tensor_split(comm.get_world_size())[comm.get_rank()].tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self._local_indices)

    def __len__(self) -> int:
        return len(self._local_indices)
