"""An independently written subset of Detectron2's API; not Detectron2. Scalars of a training, and who writes them."""

from __future__ import annotations

import datetime
import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fvcore.common.history_buffer import HistoryBuffer

from .file_io import PathManager

_storages: list[EventStorage] = []


def get_event_storage() -> EventStorage:
    """The innermost active storage; AssertionError when there is none."""
    if not _storages:
        raise AssertionError("get_event_storage() works only inside 'with EventStorage(...)'.")
    return _storages[-1]


def has_event_storage() -> bool:
    return bool(_storages)


class EventStorage:
    """Histories of named scalars, each with its iteration; active inside ``with``."""

    def __init__(self, start_iter: int = 0) -> None:
        self.iter = start_iter
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._hints: dict[str, bool] = {}
        self._latest: dict[str, tuple[float, int]] = {}
        self._prefix = ""
        self._vis_data: list[tuple[str, Any, int]] = []

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Keep an RGB picture (3, H, W) for TensorBoard."""
        self._vis_data.append((img_name, img_tensor, self.iter))

    def put_scalar(self, name: str, value: Any, smoothing_hint: bool = True, cur_iter: int | None = None) -> None:
        """Add a value; ``smoothing_hint`` says that writers should show a median, and never changes for a name."""
        name, cur_iter = self._prefix + name, self.iter if cur_iter is None else cur_iter
        if self._hints.setdefault(name, smoothing_hint) != smoothing_hint:
            raise AssertionError(f"Scalar {name} was put with another smoothing_hint before.")
        self._history[name].update(float(value), cur_iter)
        self._latest[name] = (float(value), cur_iter)

    def put_scalars(self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: Any) -> None:
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint, cur_iter)

    def history(self, name: str) -> HistoryBuffer:
        if name not in self._history:
            raise KeyError(f"No history of {name!r}; there are {sorted(self._history)}.")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        return self._latest

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Newest value and iteration of each scalar; the window's median where smoothing was asked for."""
        return {
            name: (self._history[name].median(self.count_samples(name, window_size)) if self._hints[name] else value, i)
            for name, (value, i) in self._latest.items()
        }

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """How many values the last ``window_size`` iterations have."""
        iterations = [i for _, i in self._history[name].values()]
        return sum(i > iterations[-1] - window_size for i in iterations)

    def step(self) -> None:
        self.iter += 1

    def __enter__(self) -> EventStorage:  # noqa: PYI034 (typing.Self needs Python 3.11)
        _storages.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _storages.pop()

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Scalars put inside get the prefix ``name/``."""
        outer, self._prefix = self._prefix, name.rstrip("/") + "/"
        yield
        self._prefix = outer

    def clear_images(self) -> None:
        self._vis_data = []


class EventWriter:
    """Takes what is new in the active storage and writes it somewhere."""

    def write(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to close by default."""

    def _news(self) -> dict[int, dict[str, float]]:
        """{iteration: {name: value}} of what was put since the last call."""
        news: dict[int, dict[str, float]] = defaultdict(dict)
        last = self.__dict__.setdefault("_last_write", -1)
        for name, (value, i) in get_event_storage().latest_with_smoothing_hint(self.__dict__["_window_size"]).items():
            if i > last:
                news[i][name] = value
        self._last_write = max(news, default=last)
        return news


class JSONWriter(EventWriter):
    """Appends one JSON object a line and iteration."""

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        self._file = PathManager.open(json_file, "a")
        self._window_size = window_size

    def write(self) -> None:
        for i, scalars in self._news().items():
            self._file.write(json.dumps({**scalars, "iteration": i}, sort_keys=True) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorboardXWriter(EventWriter):
    """Scalars and pictures for TensorBoard, where it is installed."""

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(log_dir=log_dir, **kwargs)  # type: ignore[no-untyped-call]
        self._window_size = window_size

    def write(self) -> None:
        for i, scalars in self._news().items():
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, i)  # type: ignore[no-untyped-call]
        for name, image, i in get_event_storage()._vis_data:
            self._writer.add_image(name, image, i)  # type: ignore[no-untyped-call]
        get_event_storage().clear_images()

    def close(self) -> None:
        self._writer.close()  # type: ignore[no-untyped-call]


class CommonMetricPrinter(EventWriter):
    """One line of progress in the log: remaining time, losses, seconds an iteration, rate, memory."""

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self.logger = logging.getLogger(__name__)
        self._max_iter, self._window_size = max_iter, window_size

    def _eta(self, storage: EventStorage) -> str:
        if self._max_iter is None:
            return ""
        if "time" in storage.histories():
            seconds = storage.history("time").median(1000) * (self._max_iter - storage.iter - 1)
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            return f"eta: {datetime.timedelta(seconds=int(seconds))}  "
        return ""

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            return
        histories, parts = storage.histories(), [f" {self._eta(storage)}iter: {storage.iter}"]
        for name, history in list(histories.items()):
            if "loss" in name or "[metric]" in name:
                parts.append(f"{name}: {history.median(storage.count_samples(name, self._window_size)):.4g}")
        if "time" in histories:
            parts.append(f"time: {histories['time'].global_avg():.4f}  last_time: {histories['time'].latest():.4f}")
        if "data_time" in histories:
            window = storage.count_samples("data_time", self._window_size)
            parts.append(f"data_time: {histories['data_time'].avg(window):.4f}")
        parts.append(f"lr: {histories['lr'].latest():.5g}" if "lr" in histories else "lr: N/A")
        if torch.cuda.is_available():
            parts.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        self.logger.info("  ".join(parts))
