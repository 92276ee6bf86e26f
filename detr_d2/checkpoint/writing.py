"""Checkpoints on their way to disk: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from detr_d2.files import uninterrupted, write_whole


def write_checkpoint(content: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write tensors and plain data; what stood there before stays until all is written.

    Raises:
        OSError: what the system refused, such as for want of space; it names the path.
        KeyboardInterrupt: it was interrupted, and is written all the same.
    """
    # torch's writer, interrupted, aborts the process when it is taken down.
    with uninterrupted():
        return write_whole(path, lambda file: torch.save(dict(content), file))
