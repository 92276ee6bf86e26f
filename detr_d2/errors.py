"""Errors that the user can fix, and how a command line shows them.

A :class:`UserError` says what came, what is allowed and what to do. Each concrete error also is the built-in error
that a caller would expect (``ValueError``, ``KeyError``, ``FileNotFoundError``, ``ImportError``).
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: What a command exits with when the user has something to fix; the same as argparse's own.
USER_ERROR_EXIT_CODE = 2
#: What a command exits with when it was interrupted (Ctrl-C), as shells have it: 128 and the signal's number.
INTERRUPTED_EXIT_CODE = 130
#: What a command exits with that SIGTERM has ended, as shells have it.
TERMINATED_EXIT_CODE = 143
_TRACEBACK = "Traceback (most recent call last):"
#: What stands before the message, in a traceback that came as text from another process, of an error of ours.
_USER_ERROR = re.compile(rf"\n{__package__}\.[\w.]+: ")
#: The last line of a traceback that came as text from another process and ends with what the system refused.
_OS_ERRORS: list[type[OSError]] = [OSError, *OSError.__subclasses__()]
_OS_ERROR = re.compile(rf"\n(?:{'|'.join(kind.__name__ for kind in _OS_ERRORS)}): (.+)\s*\Z")
#: What may help, by the error's number.
_ADVICE = {
    errno.ENOSPC: "Make room, or name a folder on another disk",
    errno.EDQUOT: "Make room, or name a folder on another disk",
    errno.EACCES: "Name a folder in which you may write, or have its permissions changed",
    errno.EPERM: "Name a folder in which you may write, or have its permissions changed",
    errno.EROFS: "Name a folder on a disk that can be written",
    errno.ENOTDIR: "A file stands where a folder is meant; name another path",
    errno.EISDIR: "A folder stands where a file is meant; name another path",
    errno.EEXIST: "Name another path, or move away what is there",
    errno.ENAMETOOLONG: "Name a shorter path",
    errno.ENOENT: "Look at the path's spelling",
    errno.EMFILE: "Raise the limit of open files ('ulimit -n'), or use fewer workers",
    errno.ELOOP: "The link leads back to itself; name another path",
}


class UserError(Exception):
    """Something that the user can fix: data, a config, weights, a path, the installation."""

    def __str__(self) -> str:
        """The plain message; ``KeyError`` would put it in quotes, ``OSError`` would look for an errno."""
        return " ".join(str(part) for part in self.args)


class BackendError(UserError, ImportError):
    """No ``detectron2`` can be chosen, or the one asked for isn't there."""


class DatasetError(UserError, KeyError, ValueError):
    """A dataset is unknown, contradicts itself, or is registered twice in different ways."""


class ConfigError(UserError, KeyError, ValueError):
    """A config key is misspelt, has a value that isn't allowed, or asks for something the machine lacks."""


class WeightsError(UserError, ValueError):
    """Weights can't be read, or belong to another model or to other categories."""


class DivergenceError(UserError, FloatingPointError):
    """Training has left the numbers: losses, predictions or weights are NaN or infinite."""


class StoppedError(UserError):
    """What ended a run from outside: once it is over, the same command goes on where it stopped."""


class MissingFileError(UserError, FileNotFoundError):
    """A file isn't there; the message names the paths tried and how to get it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as from a scheduler that needs the machine; all that Ctrl-C does is done."""


def run_command(main: Callable[[], int | None]) -> int:
    """Runs a command line's ``main`` and turns a mistake of the user into one clear message.

    Args:
        main: does the work and returns an exit code; ``None`` counts as 0.

    Returns:
        The exit code, for ``sys.exit``: what ``main`` returned; 2 after a :class:`UserError` or an ``OSError`` (no
        space, no permission, a folder where a file is meant), whose message then stands on stderr and which may come
        from another process, too; 130 where it was interrupted, 143 where it was terminated. Every other error keeps
        its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files needn't be UTF-8
    interrupts: list[int] = []
    try:
        with _noted_interrupts(interrupts):
            return _run_to_the_end(main)
    except KeyboardInterrupt as error:
        return _say_interrupted(error)
    except BrokenPipeError:  # whoever read the standard output has left
        _leave_stdout()
        return 0
    except Exception as error:
        message = message_for_user(error)
        if message is None and interrupts:  # C++ code, such as matplotlib's, makes other errors of it
            return _say_interrupted(KeyboardInterrupt())
        if message is None:
            raise
        print(f"error: {printable(message)}", file=sys.stderr)
        _leave_stdout()
        return USER_ERROR_EXIT_CODE


@contextmanager
def _noted_interrupts(interrupts: list[int]) -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt as ever, and is noted in ``interrupts``."""

    def note_and_raise(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, note_and_raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _say_interrupted(error: KeyboardInterrupt) -> int:
    print(f"stopped: {str(error) or 'interrupted; nothing half-written is left.'}", file=sys.stderr)
    return TERMINATED_EXIT_CODE if isinstance(error, Terminated) else INTERRUPTED_EXIT_CODE


def _run_to_the_end(main: Callable[[], int | None]) -> int:
    """``main``'s exit code, once all that it printed is written, as a disk may be full."""
    try:
        return main() or 0
    finally:
        if sys.exc_info()[0] in (None, SystemExit) and sys.stdout is not None:
            sys.stdout.flush()


def _leave_stdout() -> None:
    """What can't be written any more isn't tried again while the interpreter ends."""
    try:
        sys.stdout.flush()
    except (OSError, AttributeError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def printable(text: str) -> str:
    """The text with everything escaped that could steer a terminal, but for line breaks and tabs."""
    return "".join(char if char in "\n\t" or char.isprintable() else ascii(char)[1:-1] for char in text)


def os_error_message(error: OSError) -> str:
    """One sentence that says what an operating system refused, for which file, and what may help."""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    reason = error.strerror or str(error) or type(error).__name__
    advice = _ADVICE.get(error.errno or 0, "Name another path, or fix what it says")
    return f"{' -> '.join(names) + ': ' if names else ''}{reason}. {advice}."


def message_for_user(error: Exception) -> str | None:
    """What to show of a :class:`UserError` or an ``OSError``; None for every other error.

    Processes of a training, and data-loader workers, send their errors as a text: a traceback, whose end counts.
    """
    if isinstance(error, OSError) and not isinstance(error, UserError) and _TRACEBACK not in str(error):
        return os_error_message(error)
    # Commands without torch needn't wait for it, and where nobody has imported it this error isn't one of its.
    torch_processes = sys.modules.get("torch.multiprocessing")
    if not isinstance(error, (UserError, OSError, getattr(torch_processes, "ProcessRaisedException", OSError))):
        return None
    text = str(error)
    *before, last = _USER_ERROR.split(text)
    if before and _TRACEBACK not in last:
        return last.strip()
    if refused := _OS_ERROR.search(text):
        return f"{refused[1]}. Name another path, or fix what it says."
    return text if isinstance(error, UserError) else None
