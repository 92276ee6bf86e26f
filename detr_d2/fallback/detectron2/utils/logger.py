"""An independently written subset of Detectron2's API; not Detectron2. Log to the terminal and to a file per rank."""

import functools
import logging
import os
import sys
from typing import Any

from termcolor import colored

from .file_io import PathManager

_DATE = "%m/%d %H:%M:%S"


class _ColorFormatter(logging.Formatter):
    """Paints warnings and errors red, the rest of the prefix green."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno < logging.WARNING else colored(record.levelname, "red") + " "
        place = record.name.replace("detectron2.", "d2.")
        prefix = colored(f"[{self.formatTime(record, _DATE)} {place}]: ", "green")
        return prefix + level + logging.Formatter("%(message)s").format(record)


@functools.cache
def _log_file(path: str) -> Any:
    PathManager.mkdirs(os.path.dirname(path) or ".")
    return PathManager.open(path, "a")


@functools.cache
def setup_logger(
    output: Any = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detectron2",
    abbrev_name: str = "",
) -> logging.Logger:
    """Logger ``name``, from DEBUG up: rank 0 to stdout, each rank to ``output`` (a folder, for log.txt; or a file)."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    plain = logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", _DATE)
    if distributed_rank == 0:
        logger.addHandler(logging.StreamHandler(sys.stdout))
        logger.handlers[-1].setFormatter(_ColorFormatter() if color else plain)
    if output is not None:
        path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        logger.addHandler(
            logging.StreamHandler(_log_file(path + (f".rank{distributed_rank}" if distributed_rank else "")))
        )
        logger.handlers[-1].setFormatter(plain)
    return logger
