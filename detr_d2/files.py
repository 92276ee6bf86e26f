"""Files reach their place whole or not at all: written beside, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> Path:
    """Calls ``write`` with a file beside ``path`` and renames that file to ``path`` once it is complete.

    Args:
        path: where to; its folder is made, and a file that is there is replaced.
        write: is given the open file.

    Returns:
        ``path``.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
        os.chmod(name, 0o666 & ~current_umask())  # mkstemp's files are for their owner alone
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
    return target


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Writes a text file in UTF-8, whole or not at all; see :func:`write_whole`."""
    return write_whole(path, lambda file: file.write(text.encode("utf-8")))


def current_umask() -> int:
    """The process's umask, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
