"""An independently written subset of Detectron2's API; not Detectron2. Log to the terminal and to a file per rank."""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from typing import Any

from tabulate import tabulate
from termcolor import colored

from .file_io import PathManager

_seen: dict[tuple[str, int], float] = {}


class _ColorFormatter(logging.Formatter):
    """Shortens the root module's name and paints warnings and errors red."""

    def __init__(self, root: str, short: str) -> None:
        super().__init__(colored("[%(asctime)s %(name)s]: ", "green") + "%(message)s", datefmt="%m/%d %H:%M:%S")
        self._names = root + ".", short + "." if short else ""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.name = record.name.replace(*self._names)
        text = super().formatMessage(record)
        return text if record.levelno < logging.WARNING else colored(record.levelname, "red") + " " + text


@functools.lru_cache
def _log_file(path: str) -> Any:
    PathManager.mkdirs(os.path.dirname(path) or ".")
    return PathManager.open(path, "a")


@functools.lru_cache
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detectron2",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Logger ``name`` at DEBUG: rank 0 to stdout; every rank to ``output`` (a folder's log.txt, or a .txt/.log file)."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    short = abbrev_name if abbrev_name is not None else "d2" if name == "detectron2" else name
    plain = logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt="%m/%d %H:%M:%S")
    if configure_stdout and distributed_rank == 0:
        terminal = logging.StreamHandler(sys.stdout)
        terminal.setFormatter(_ColorFormatter(name, short) if color else plain)
        logger.addHandler(terminal)
    if output is not None:
        path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        handler = logging.StreamHandler(_log_file(path + (f".rank{distributed_rank}" if distributed_rank else "")))
        handler.setFormatter(plain)
        logger.addHandler(handler)
    return logger


def log_first_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None, key: Any = "caller") -> None:
    """Log under the caller's module, at most ``n`` times from one place (or, ``key="message"``, of one text)."""
    caller = sys._getframe(1)
    place = (msg, 0) if key == "message" else (caller.f_code.co_filename, caller.f_lineno)
    if _seen.setdefault(place, 0) < n:
        _seen[place] += 1
        logging.getLogger(name or caller.f_globals["__name__"]).log(lvl, msg)


def log_every_n_seconds(lvl: int, msg: str, n: float = 1, *, name: str | None = None) -> None:
    """Log under the caller's module, at most once in ``n`` seconds from one place."""
    caller = sys._getframe(1)
    place = caller.f_code.co_filename, caller.f_lineno
    if time.time() - _seen.get(place, -float("inf")) >= n:
        _seen[place] = time.time()
        logging.getLogger(name or caller.f_globals["__name__"]).log(lvl, msg)


def create_small_table(small_dict: dict[str, Any]) -> str:
    """A table of one row, the keys as its header."""
    return tabulate([list(small_dict.values())], list(small_dict), "pipe", ".3f", numalign="center", stralign="center")
