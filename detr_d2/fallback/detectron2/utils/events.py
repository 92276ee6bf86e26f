"""An independently written subset of Detectron2's API; not Detectron2. Scalars of a training, and who writes them."""

from __future__ import annotations

import datetime
import json
import logging
from collections import defaultdict
from typing import Any

import torch
from fvcore.common.history_buffer import HistoryBuffer

from .file_io import PathManager

_storages: list[EventStorage] = []


def get_event_storage() -> EventStorage:
    """The innermost active storage."""
    assert _storages, "get_event_storage() works only inside 'with EventStorage(...)'."
    return _storages[-1]


class EventStorage:
    """Histories of named scalars, each value with its iteration; active inside ``with``."""

    def __init__(self, start_iter: int = 0) -> None:
        self.iter = start_iter
        self._history: dict[str, HistoryBuffer] = {}
        self.hints: dict[str, bool] = {}
        self._latest: dict[str, tuple[float, int]] = {}
        self.images: list[tuple[str, Any, int]] = []

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """For TensorBoard: RGB (3, H, W), uint8, or float from 0 to 1."""
        self.images.append((img_name, img_tensor, self.iter))

    def put_scalar(self, name: str, value: Any, smoothing_hint: bool = True, cur_iter: int | None = None) -> None:
        """Add a value; ``smoothing_hint`` (one for all values of a name) asks writers to show a median."""
        assert self.hints.setdefault(name, smoothing_hint) == smoothing_hint, f"{name} had another smoothing_hint."
        self._latest[name] = (float(value), self.iter if cur_iter is None else cur_iter)
        self._history.setdefault(name, HistoryBuffer()).update(*self._latest[name])

    def put_scalars(self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: Any) -> None:
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint, cur_iter)

    def histories(self) -> dict[str, HistoryBuffer]:
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        return self._latest

    def __enter__(self) -> EventStorage:
        _storages.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _storages.pop()


class EventWriter:
    """Takes what is new in the active storage and writes it somewhere."""

    window_size, last_write = 20, -1
    file: Any = None

    def write(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def news(self) -> dict[int, dict[str, float]]:
        """{iteration: {name: value}} of what was put since the last call; medians where smoothing was asked for."""
        storage, news = get_event_storage(), defaultdict[int, dict[str, float]](dict)
        for name, (value, i) in storage.latest().items():
            if i > self.last_write:
                news[i][name] = storage.histories()[name].median(self.window_size) if storage.hints[name] else value
        self.last_write = max(news, default=self.last_write)
        return news


class JSONWriter(EventWriter):
    """Appends one JSON object an iteration, each on a line."""

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        self.file, self.window_size = PathManager.open(json_file, "a"), window_size

    def write(self) -> None:
        for i, scalars in self.news().items():
            self.file.write(json.dumps({**scalars, "iteration": i}, sort_keys=True) + "\n")
        self.file.flush()


class TensorboardXWriter(EventWriter):
    """Scalars for TensorBoard; ImportError where it isn't installed."""

    def __init__(self, log_dir: str, window_size: int = 20) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.file, self.window_size = SummaryWriter(log_dir), window_size

    def write(self) -> None:
        for i, scalars in self.news().items():
            for name, value in scalars.items():
                self.file.add_scalar(name, value, i)
        for image in get_event_storage().images:
            self.file.add_image(*image)
        get_event_storage().images.clear()


class CommonMetricPrinter(EventWriter):
    """A line of progress in the log: remaining time, losses, seconds an iteration, rate, memory."""

    def __init__(self, max_iter: int, window_size: int = 20) -> None:
        self.max_iter, self.window_size = max_iter, window_size

    def write(self) -> None:
        storage = get_event_storage()
        histories, parts = storage.histories(), [f"iter: {storage.iter}"]
        if storage.iter == self.max_iter:
            return
        if "time" in histories:
            seconds = histories["time"].median(1000) * (self.max_iter - storage.iter - 1)
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            parts.insert(0, f"eta: {datetime.timedelta(seconds=int(seconds))}")
        parts += [f"{k}: {h.median(self.window_size):.4g}" for k, h in histories.items() if "loss" in k]
        parts += [f"{k}: {histories[k].global_avg():.4f}" for k in ("time", "data_time") if k in histories]
        parts += [f"lr: {histories['lr'].latest():.5g}"] if "lr" in histories else []
        if torch.cuda.is_available():
            parts.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        logging.getLogger(__name__).info(" " + "  ".join(parts))
