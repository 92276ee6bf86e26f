"""An independently written subset of Detectron2's API; not Detectron2. Log to the terminal and to a file per rank."""

import functools
import logging
import os
import sys
import time
from typing import Any

from tabulate import tabulate
from termcolor import colored

from .file_io import PathManager

_seen: dict[Any, float] = {}


class _ColorFormatter(logging.Formatter):
    """Shortens the root module's name; paints warnings and errors red."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.name = record.name.replace("detectron2.", "d2.")
        level = "" if record.levelno < logging.WARNING else colored(record.levelname, "red") + " "
        return level + super().formatMessage(record)


@functools.cache
def _log_file(path: str) -> Any:
    PathManager.mkdirs(os.path.dirname(path) or ".")
    return PathManager.open(path, "a")


@functools.cache
def setup_logger(
    output: str | None = None, distributed_rank: int = 0, *, color: bool = True, name: str = "detectron2", **_: Any
) -> logging.Logger:
    """Logger ``name``, from DEBUG up: rank 0 to stdout, each rank to ``output`` (a folder, for log.txt; or a file)."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    handlers: list[logging.Handler] = []
    plain = logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", "%m/%d %H:%M:%S")
    if distributed_rank == 0:
        painted = _ColorFormatter(colored("[%(asctime)s %(name)s]: ", "green") + "%(message)s", "%m/%d %H:%M:%S")
        handlers.append(logging.StreamHandler(sys.stdout))
        handlers[0].setFormatter(painted if color else plain)
    if output is not None:
        path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        handlers.append(
            logging.StreamHandler(_log_file(f"{path}.rank{distributed_rank}" if distributed_rank else path))
        )
        handlers[-1].setFormatter(plain)
    for handler in handlers:
        logger.addHandler(handler)
    return logger


def log_every_n_seconds(lvl: int, msg: str, n: float = 1, *, name: str | None = None) -> None:
    """Log as the caller's module, at most once in ``n`` seconds from one place."""
    caller = sys._getframe(1)
    place = caller.f_code.co_filename, caller.f_lineno
    if time.time() - _seen.get(place, -float("inf")) >= n:
        _seen[place] = time.time()
        logging.getLogger(name or caller.f_globals["__name__"]).log(lvl, msg)


def create_small_table(small_dict: dict[str, Any]) -> str:
    """A table of one row, the keys as its header."""
    return tabulate([list(small_dict.values())], list(small_dict), "pipe", ".3f", numalign="center", stralign="center")
