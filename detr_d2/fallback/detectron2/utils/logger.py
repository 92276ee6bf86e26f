"""An independently written subset of Detectron2's API; not Detectron2. Log to the terminal and to a file per rank."""

import functools
import logging
import os
import sys
from typing import Any

from termcolor import colored

from .file_io import PathManager


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
    prefix = "[%(asctime)s] %(name)s %(levelname)s: "
    plain = logging.Formatter(prefix + "%(message)s", "%m/%d %H:%M:%S")
    green = logging.Formatter(colored(prefix, "green") + "%(message)s", "%m/%d %H:%M:%S")
    if distributed_rank == 0:
        logger.addHandler(logging.StreamHandler(sys.stdout))
        logger.handlers[-1].setFormatter(green if color else plain)
    if output is not None:
        path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        path += f".rank{distributed_rank}" if distributed_rank else ""
        logger.addHandler(logging.StreamHandler(_log_file(path)))
        logger.handlers[-1].setFormatter(plain)
    return logger
