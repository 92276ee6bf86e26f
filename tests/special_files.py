"""What may stand where a file is meant."""

from __future__ import annotations

import os
from pathlib import Path


def make_special(path: Path, kind: str) -> Path:
    """A "pipe", a "folder", or a device that never ends."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    return path
