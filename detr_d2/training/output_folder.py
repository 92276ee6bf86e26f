"""The folder that a training writes into: whether it can, and what is said when it no longer can."""

from __future__ import annotations

import errno
import fcntl
import itertools
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detr_d2.checkpoint.paths import LAST_CHECKPOINT
from detr_d2.errors import ConfigError, message_for_user
from detr_d2.files import refuse_special, remove_unfinished
from detr_d2.training.evaluation_log import FILE as EVALUATIONS

logger = logging.getLogger(__name__)

#: The file that is locked; it says which process does.
LOCK = "running.lock"

#: What a run writes as it goes, other than beside and renamed: through a link this would change a file elsewhere.
_WRITTEN_IN_PLACE = (
    *(LOCK, "log.txt*", "metrics.json", EVALUATIONS, "config.yaml"),
    "inference/*/coco_instances_results.json",
)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def check_output_folder(folder: str) -> None:
    """Refuses an ``OUTPUT_DIR`` that can't be made or written, or that a link in it leads out of.

    Raises:
        ConfigError: a file stands there, or on the way; one may not write there; a file that the run would append to is
            a link, as in a folder of somebody else's.
        SpecialFileError: such a file is a pipe, a device or a folder.
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
    for path in itertools.chain.from_iterable(Path(folder).glob(pattern) for pattern in _WRITTEN_IN_PLACE):
        if path.is_symlink():
            raise ConfigError(
                f"OUTPUT_DIR is {folder}, and {path.relative_to(folder)} in it is a link to {os.readlink(path)}, which "
                "the run would write to. Remove the link, or name another folder."
            )
        refuse_special(path)


@contextmanager
def locking_output_folder(folder: str) -> Iterator[None]:
    """Keeps other runs out of a folder, and removes what one that was killed had begun to write.

    The system releases the lock when the process ends, however it ends, so that no lock is ever left over. Over NFS it
    holds between machines, too, where their lock service runs, as it does by default.

    Raises:
        ConfigError: another run writes there.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, LOCK), "a+b") as file:
        try:
            # A lock of fcntl's kind isn't inherited by workers, which may outlive a process that is killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                who = file.read(500).decode("utf-8", errors="replace").strip()
                raise ConfigError(
                    f"OUTPUT_DIR is {folder}, and another run is writing there ({who or 'unknown'}). Name another "
                    "folder, or end that run."
                ) from error
            logger.warning("%s can't be locked (%s); see that no other run writes there.", folder, error.strerror)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        file.flush()
        for pattern in ("model_*", LAST_CHECKPOINT):
            for path in remove_unfinished(folder, pattern):
                logger.info("Removed %s, which a run that was killed had begun to write.", path)
        yield


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
