"""An independently written subset of Detectron2's API; not Detectron2.

Which entries of a dataset come next; every process of a training takes its own share.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from detectron2.utils import comm


class TrainingSampler(Sampler):
    """All of ``size`` entries, in a new order each epoch, without end.

    Args:
        shuffle: False keeps the dataset's order.
        seed: of the order; None: a random one that all processes share.

    Raises:
        TypeError, ValueError: ``size`` isn't a positive int.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        if not isinstance(size, int):
            raise TypeError(f"TrainingSampler(size=) expects an int. Got type {type(size)}.")
        if size <= 0:
            raise ValueError(f"TrainingSampler(size=) expects a positive int. Got {size}.")
        self._size = size
        self._shuffle = shuffle
        self._seed = int(comm.shared_random_seed() if seed is None else seed)

    def _epoch(self, generator: torch.Generator) -> Tensor:
        return torch.arange(self._size)

    def _indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed)
        while True:
            indices = self._epoch(generator)
            order = torch.randperm(len(indices), generator=generator) if self._shuffle else slice(None)
            yield from indices[order].tolist()

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self._indices(), comm.get_rank(), None, comm.get_world_size())


class RepeatFactorTrainingSampler(TrainingSampler):
    """As above, but an entry of factor 2.3, of (N,) factors, comes twice or, in 3 of 10 epochs, three times.

    Source: Gupta et al. 2019, "LVIS", appendix B.2.
    """

    def __init__(self, repeat_factors: Tensor, *, shuffle: bool = True, seed: int | None = None) -> None:
        super().__init__(len(repeat_factors), shuffle, seed)
        self._factors = repeat_factors

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: list[dict[str, Any]], repeat_thresh: float, sqrt: bool = True
    ) -> Tensor:
        """(N,) from N dicts with "annotations": threshold / share of pictures with the rarest category, at least 1."""
        categories = [{entry["category_id"] for entry in record["annotations"]} for record in dataset_dicts]
        counts = Counter(itertools.chain.from_iterable(categories))
        rarest = [min((counts[category] for category in present), default=0) for present in categories]
        ratios = torch.tensor([repeat_thresh * len(categories) / count if count else 1.0 for count in rarest])
        return (ratios.sqrt() if sqrt else ratios).clamp(min=1)

    def _epoch(self, generator: torch.Generator) -> Tensor:
        whole = torch.trunc(self._factors)
        repeats = whole + (torch.rand(self._size, generator=generator) < self._factors - whole)
        return torch.repeat_interleave(torch.arange(self._size), repeats.long())


class InferenceSampler(Sampler):
    """Each of ``size`` entries once: every process takes a run of neighbours, the first ones one more if needed."""

    def __init__(self, size: int) -> None:
        self._local_indices = torch.arange(size).tensor_split(comm.get_world_size())[comm.get_rank()].tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self._local_indices)

    def __len__(self) -> int:
        return len(self._local_indices)
