"""Errors that the user can mend, and how a command line shows them.

A :class:`UserError` says what came, what is allowed and what to do. Each concrete error also is the built-in error
that a caller would expect (``ValueError``, ``KeyError``, ``FileNotFoundError``, ``ImportError``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

#: What a command exits with when the user has something to mend; the same as argparse's own.
USER_ERROR_EXIT_CODE = 2
_TRACEBACK = "Traceback (most recent call last):"


class UserError(Exception):
    """Something that the user can mend: data, a config, weights, a path, the installation."""

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


class MissingFileError(UserError, FileNotFoundError):
    """A file isn't there; the message names the paths tried and how to get it."""


def run_command(main: Callable[[], int | None]) -> int:
    """Runs a command line's ``main`` and turns a mistake of the user into one clear message.

    Args:
        main: does the work and returns an exit code; ``None`` counts as 0.

    Returns:
        The exit code, for ``sys.exit``: what ``main`` returned, or 2 after a :class:`UserError`, whose message then
        stands on stderr; it may come from another process, too. Every other error keeps its traceback.
    """
    try:
        return main() or 0
    except Exception as error:
        message = _message_for_user(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return USER_ERROR_EXIT_CODE


def _message_for_user(error: Exception) -> str | None:
    """What to show of a :class:`UserError`; None for every other error.

    Processes of a training, and data-loader workers, send their errors as a text: a traceback, whose end counts.
    """
    from torch.multiprocessing import ProcessRaisedException  # commands that never start a process needn't wait for it

    if not isinstance(error, UserError | ProcessRaisedException):
        return None
    text = str(error)
    before, _, last = text.rpartition(f"\n{__name__}.")
    if before and _TRACEBACK not in last:
        return last.partition(": ")[2].strip()
    return text if isinstance(error, UserError) else None
