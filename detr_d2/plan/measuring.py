"""What a step of a training takes on this machine: a few real steps with a model of random weights, on real images."""

from __future__ import annotations

import gc
import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from detr_d2.data.train_loader import build_train_mapper, seeded
from detr_d2.errors import ConfigError
from detr_d2.labels.rules.json_files import memory_free
from detr_d2.parallel import default_workers
from detr_d2.progress import progress
from detr_d2.solver import build_optimizer
from detr_d2.training.memory import asked_for, forget_peak, memory_in_use, resident_memory

from detectron2.config import CfgNode
from detectron2.modeling import build_model

#: Images that are read and augmented to know their sizes, and how long that takes.
_SAMPLES = 16
#: Batches drawn of them to know how much of a batch is padding.
_DRAWS = 200
#: Steps of one batch size at most, the first left out.
_STEPS = 5
#: A batch isn't tried when it would take more than this part of the memory that is free.
MOST_MEMORY = 0.8


@dataclass(frozen=True)
class Point:
    """A batch that was measured.

    Args:
        batch: images.
        pixels: of the whole batch, padding included.
        seconds: of a step: forward, backward, update.
        memory: bytes at the peak, those of the program included.
    """

    batch: int
    pixels: int
    seconds: float
    memory: int


@dataclass(frozen=True)
class Measured:
    """What was measured of a stage; other batches are on the line through the smallest and the largest.

    Args:
        points: by rising batch.
        sizes: (height, width) of augmented images.
        reading: seconds to read and augment one.
        evaluation: seconds of a forward pass and its losses, of one image.
        fixed: bytes of the program, and of parameters with their gradients and moments.
        slowed: how many times as long the steps took as the processors worked on them; above 1, others used them.
        workers: ``DATALOADER.NUM_WORKERS``.
        on_cpu: whether workers share the processors with the training.
    """

    points: tuple[Point, ...]
    sizes: tuple[tuple[int, int], ...]
    reading: float
    evaluation: float
    fixed: int
    slowed: float
    workers: int
    on_cpu: bool

    def seconds(self, batch: int) -> float:
        """Seconds of an iteration with so many images, reading included."""
        step = self._on_line(batch, self._mean_pixels(batch), "seconds")
        reading = self.reading * batch
        if not self.workers:
            return step + reading
        processes = min(self.workers, default_workers())
        return step + reading / default_workers() if self.on_cpu else max(step, reading / processes)

    def memory(self, batch: int) -> int:
        """Bytes at the peak with so many images, of which the highest and the widest are the largest seen."""
        height, width = (max(size[i] for size in self.sizes) for i in (0, 1))
        return round(self._on_line(batch, batch * height * width, "memory"))

    def _mean_pixels(self, batch: int) -> float:
        """Pixels of a padded batch, on average."""
        chance = random.Random(0)
        draws = [chance.choices(self.sizes, k=batch) for _ in range(_DRAWS)]
        return statistics.fmean(batch * max(h for h, _ in draw) * max(w for _, w in draw) for draw in draws)

    def _on_line(self, batch: int, pixels: float, key: str) -> float:
        """A figure for so many pixels, in a straight line from the smallest batch through the largest."""
        first, last = self.points[0], self.points[-1]
        low, high = getattr(first, key), getattr(last, key)
        if last.pixels > first.pixels:
            return float(low + max(0.0, high - low) / (last.pixels - first.pixels) * (pixels - first.pixels))
        fixed = self.fixed if key == "memory" else 0
        return float(fixed + (low - fixed) * pixels / first.pixels)


def measure(cfg: CfgNode, records: list[dict[str, Any]], most_batch: int, budget: float, title: str) -> Measured:
    """Runs steps of a training with 1, 2, 4 ... images, until the time or the memory is used up.

    Nothing is loaded or written: the weights are random, as time and memory don't depend on them.

    Args:
        cfg: of the stage.
        records: dataset dicts of ``DATASETS.TRAIN``.
        most_batch: the largest batch that is of interest.
        budget: seconds, roughly; two steps of one image are always taken.
        title: of the progress bar.

    Raises:
        ConfigError: keys that make no sense, or not even one image fits into the memory.
        DatasetError, MissingFileError: an image or its labels can't be read.
    """
    cfg = _without_weights(cfg)
    with seeded(0):
        samples, reading = _read(cfg, records, budget / 3)
        trial = _Trial(cfg, samples)
        points = trial.points(most_batch, budget, title)
    sizes = tuple((int(one["image"].shape[1]), int(one["image"].shape[2])) for one in samples)
    on_cpu = torch.device(cfg.MODEL.DEVICE).type == "cpu"
    evaluation, fixed, slowed = trial.seconds_forward(), trial.fixed, trial.slowed if on_cpu else 1.0
    del trial
    gc.collect()  # before the next stage is measured
    return Measured(points, sizes, reading, evaluation, fixed, slowed, cfg.DATALOADER.NUM_WORKERS, on_cpu)


def _without_weights(cfg: CfgNode) -> CfgNode:
    """The config of a model that needs no files."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = cfg.MODEL.TIMM.WEIGHTS = ""
    cfg.MODEL.TIMM.PRETRAINED = False
    return cfg


def _read(cfg: CfgNode, records: list[dict[str, Any]], budget: float) -> tuple[list[dict[str, Any]], float]:
    """Inputs of the model, and the seconds that one takes; at least two, spread evenly over the records."""
    mapper, entries = build_train_mapper(cfg, records)
    found, seconds, start = [], [], time.perf_counter()
    for i in range(_SAMPLES):
        began = time.perf_counter()
        found.append(mapper(entries[i * len(entries) // _SAMPLES]))
        seconds.append(time.perf_counter() - began)
        if i > 0 and time.perf_counter() - start > budget:
            break
    return found, statistics.median(seconds)


def _pixels(given: dict[str, Any]) -> int:
    return int(given["image"].shape[1] * given["image"].shape[2])


class _Trial:
    """A model with an optimizer, and inputs to take steps with.

    Args:
        cfg: of the stage, without weights.
        samples: inputs of the model.
    """

    def __init__(self, cfg: CfgNode, samples: Sequence[dict[str, Any]]) -> None:
        self._cfg, self._samples = cfg, sorted(samples, key=_pixels)
        self._clock = self._work = 0.0
        self._device = torch.device(cfg.MODEL.DEVICE)
        before = 0 if self._device.type == "cuda" else resident_memory()
        self._model = build_model(cfg)
        self._model.train()
        self._optimizer = build_optimizer(cfg, self._model)
        sizes = [(one.numel() * one.element_size(), one.requires_grad) for one in self._model.parameters()]
        #: A parameter that is trained has a gradient and two moments.
        self.fixed = before + sum(size * (4 if is_trained else 1) for size, is_trained in sizes)

    @property
    def slowed(self) -> float:
        """Seconds of all steps by the clock, for each that the processors worked on them; 1 or more."""
        return max(1.0, self._clock / self._work) if self._work > 0 else 1.0

    def points(self, most_batch: int, budget: float, title: str) -> tuple[Point, ...]:
        """Measures batches of 1, 2, 4 ... images; see :func:`measure`."""
        found: list[Point] = []
        sizes = [2**i for i in range(most_batch.bit_length()) if 2**i < most_batch] + [most_batch]
        start = time.perf_counter()
        for size in progress(sizes, len(sizes), "batch", title):
            left = budget - (time.perf_counter() - start)
            room = MOST_MEMORY * free_memory(self._cfg.MODEL.DEVICE)
            if found and not _is_worth_trying(found, size, left, room):
                break
            try:
                found.append(self._point(size, left / 4))
            except (RuntimeError, MemoryError) as error:
                if not asked_for(str(error)) and not isinstance(error, MemoryError):
                    raise
                if not found:
                    raise ConfigError(_too_large(self._cfg)) from error
                break
        return tuple(found)

    def seconds_forward(self) -> float:
        """Seconds of a forward pass with the losses of one image, which is what the validation loss takes."""
        with torch.no_grad():
            return _median_seconds(lambda: self._losses(self._batch(1)).item(), 0.0)

    def _point(self, size: int, budget: float) -> Point:
        batch = self._batch(size)
        forget_peak()
        self._step(batch)  # warms up: memory, plans of convolutions, the optimizer's moments
        seconds = _median_seconds(lambda: self._step(batch), budget)
        height, width = (max(one["image"].shape[i] for one in batch) for i in (1, 2))
        return Point(size, size * height * width, seconds, memory_in_use())

    def _batch(self, size: int) -> list[dict[str, Any]]:
        """So many of the samples around the middle one by size; some more than once if need be."""
        first = max(0, (len(self._samples) - size) // 2)
        return list(itertools.islice(itertools.cycle([*self._samples[first:], *self._samples[:first]]), size))

    def _losses(self, batch: Sequence[dict[str, Any]]) -> torch.Tensor:
        with torch.autocast("cuda", enabled=self._cfg.SOLVER.AMP.ENABLED and self._device.type == "cuda"):
            losses: dict[str, torch.Tensor] = self._model(batch)
        return torch.stack(list(losses.values())).sum()

    def _step(self, batch: Sequence[dict[str, Any]]) -> None:
        clock, work = time.perf_counter(), time.process_time()
        self._optimizer.zero_grad()
        self._losses(batch).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self._clock += time.perf_counter() - clock
        self._work += time.process_time() - work


def _is_worth_trying(points: Sequence[Point], size: int, left: float, room: float) -> bool:
    """Whether two steps of a larger batch will fit into the seconds that are left, and the batch into the memory."""
    last = points[-1]
    grown = size / last.batch
    increment = last.memory - points[0].memory if len(points) > 1 else last.memory / 2
    return 2 * grown * last.seconds < left and increment * grown < room


def _median_seconds(run: Callable[[], object], budget: float) -> float:
    """The median of up to ``_STEPS`` runs, at least one."""
    found: list[float] = []
    while not found or (len(found) < _STEPS and sum(found) + found[-1] < budget):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def free_memory(device: str) -> int:
    """Bytes that are free: of the GPU, if ``device`` is one, else of the machine."""
    return int(torch.cuda.mem_get_info(device)[0]) if torch.device(device).type == "cuda" else memory_free()


def _too_large(cfg: CfgNode) -> str:
    side, free = cfg.INPUT.MAX_SIZE_TRAIN, free_memory(cfg.MODEL.DEVICE) / 2**30
    return (
        f"not even one image of up to {side} pixels a side fits into the memory of this machine, of which {free:.1f} "
        "GiB are free. Close other programs, plan with smaller images, such as --opts INPUT.MAX_SIZE_TRAIN "
        f"{side // 2}, or with --no-measure."
    )
