"""Rare classes come more often: repeat factors over panoptic segments, things and stuff alike.

Source: Gupta et al. 2019, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", section 5 and appendix B.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from detectron2.utils import comm

logger = logging.getLogger(__name__)

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
    segments: Iterable[dict[str, Any]] = record["segments_info"] if "segments_info" in record else record["annotations"]
    return {segment["category_id"] for segment in segments if not segment.get("iscrowd", 0)}


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
