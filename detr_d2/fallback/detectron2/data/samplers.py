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


class RepeatFactorTrainingSampler(Sampler):
    """Epoch after epoch without end; an entry of factor 2.3 comes twice or, in 3 of 10 epochs, three times.

    Args:
        repeat_factors: (N,) one for each entry.
        shuffle: False keeps the dataset's order.
        seed: of the order; None: a random one that all processes share.

    Source: Gupta et al. 2019, "LVIS", appendix B.2.
    """

    def __init__(self, repeat_factors: Tensor, *, shuffle: bool = True, seed: int | None = None) -> None:
        self._factors = repeat_factors
        self._shuffle = shuffle
        self._seed = int(comm.shared_random_seed() if seed is None else seed)

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: list[dict[str, Any]], repeat_thresh: float, sqrt: bool = True
    ) -> Tensor:
        """(N,) factors for N dicts with "annotations": threshold / share of pictures with the rarest category.

        A factor is at least 1; ``sqrt`` takes the square root.
        """
        categories = [{entry["category_id"] for entry in record["annotations"]} for record in dataset_dicts]
        counts = Counter(itertools.chain.from_iterable(categories))
        rarest = [min((counts[category] for category in present), default=0) for present in categories]
        ratios = [repeat_thresh * len(categories) / count if count else 1.0 for count in rarest]
        return torch.tensor([max(1.0, ratio**0.5 if sqrt else ratio) for ratio in ratios], dtype=torch.float32)

    def _epoch(self, generator: torch.Generator) -> Tensor:
        whole = torch.trunc(self._factors)
        repeats = whole + (torch.rand(len(whole), generator=generator) < self._factors - whole)
        indices = torch.repeat_interleave(torch.arange(len(whole)), repeats.long())
        return indices[torch.randperm(len(indices), generator=generator)] if self._shuffle else indices

    def _indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed)
        while True:
            yield from self._epoch(generator).tolist()

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self._indices(), comm.get_rank(), None, comm.get_world_size())


class TrainingSampler(RepeatFactorTrainingSampler):
    """All of ``size`` entries, in a new order each epoch, without end; arguments as of the class above.

    Raises:
        TypeError, ValueError: ``size`` isn't a positive int.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        if not isinstance(size, int):
            raise TypeError(f"TrainingSampler(size=) expects an int. Got type {type(size)}.")
        if size <= 0:
            raise ValueError(f"TrainingSampler(size=) expects a positive int. Got {size}.")
        super().__init__(torch.ones(size), shuffle=shuffle, seed=seed)

    def _epoch(self, generator: torch.Generator) -> Tensor:
        size = len(self._factors)
        return torch.randperm(size, generator=generator) if self._shuffle else torch.arange(size)


class InferenceSampler(Sampler):
    """Each of ``size`` entries once: every process takes a run of neighbours, the first ones one more if needed."""

    def __init__(self, size: int) -> None:
        assert size > 0, f"InferenceSampler(size=) expects a positive int. Got {size}."
        share, left = divmod(size, comm.get_world_size())
        begin = comm.get_rank() * share + min(comm.get_rank(), left)
        self._local_indices = range(begin, begin + share + (comm.get_rank() < left))

    def __iter__(self) -> Iterator[int]:
        return iter(self._local_indices)

    def __len__(self) -> int:
        return len(self._local_indices)
