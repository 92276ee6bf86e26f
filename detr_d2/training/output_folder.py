"""The folder that a training writes into: whether it can, and what is said when it no longer can."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from detr_d2.errors import ConfigError, message_for_user

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def check_output_folder(folder: str) -> None:
    """Refuses an ``OUTPUT_DIR`` that can't be made or written.

    Raises:
        ConfigError: a file stands there, or on the way; or one may not write there.
        OSError: what else the system says of the path, such as that it is too long.
    """
    above = os.path.abspath(folder)
    while True:
        try:
            os.stat(above)
            break
        except (FileNotFoundError, NotADirectoryError):
            above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise ConfigError(f"OUTPUT_DIR is {folder}, and {above} is a file. Name a folder, or move the file away.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError(
            f"OUTPUT_DIR is {folder}, and {above} can't be written. Name a folder in which you may write."
        )


@contextmanager
def naming_output_folder(folder: str) -> Iterator[None]:
    """Says which folder it was where the system refuses to write and names no file, as for an open one on a full disk.

    Raises:
        OSError: what came, with the folder.
    """
    try:
        with _silent_beside():
            yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _close_logs()
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, folder) from error


@contextmanager
def _silent_beside() -> Iterator[None]:
    """The log and TensorBoard's thread don't tell the terminal of a full disk: what else is written there does."""
    shown, hook = logging.raiseExceptions, threading.excepthook

    def unless_full(args: threading.ExceptHookArgs) -> None:
        if not (isinstance(args.exc_value, OSError) and args.exc_value.errno in _FULL):
            hook(args)

    logging.raiseExceptions, threading.excepthook = False, unless_full
    try:
        yield
    finally:
        logging.raiseExceptions, threading.excepthook = shown, hook


def _close_logs() -> None:
    """Closes the log's files, which would complain once more about the full disk when the interpreter ends."""
    for name in ("detectron2", "fvcore", "detr_d2"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if isinstance(handler, logging.StreamHandler) and handler.stream not in (sys.stdout, sys.stderr):
                logger.removeHandler(handler)
                with suppress(OSError, ValueError):
                    handler.stream.close()


def log_errors_of_users_plainly() -> None:
    """Takes the traceback off what Detectron2 logs of errors that the command line shows in one sentence."""
    for handler in logging.getLogger("detectron2").handlers:
        handler.addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    message = message_for_user(error) if isinstance(error, Exception) else None
    if message is not None:
        record.exc_info = record.exc_text = None
        record.msg, record.args = "The training stops: %s", (message,)
    return True
