"""The short names of published weights, wherever Detectron2 takes a path: ``MODEL.WEIGHTS detr-r50-panoptic``."""

from __future__ import annotations

import os
from typing import Any

from iopath.common.file_io import NativePathHandler

from detectron2.utils.file_io import PathManager

from .names import PUBLISHED_WEIGHTS
from .places import find_weights
from .reading import read_weights
from .writing import write_checkpoint


class _PublishedWeights(NativePathHandler):
    """Local paths as ever, and what a short name stands for where there is no such file."""

    def _get_supported_prefixes(self) -> list[str]:  # newer releases of iopath hand a native handler every local path
        return list(PUBLISHED_WEIGHTS)

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        if path in PUBLISHED_WEIGHTS and not os.path.isfile(path):
            return _as_checkpoint(path)
        return str(super()._get_local_path(path, force, **kwargs))


def register_short_names() -> None:
    """Let Detectron2's ``PathManager`` understand the short names."""
    PathManager.register_handler(_PublishedWeights(), allow_override=True)


def _as_checkpoint(name: str) -> str:
    """The weights as a checkpoint of this project, kept beside the fetched file.

    Detectron2's checkpointer leaves out what has another shape before the model is asked, so that published class
    heads, which have a row for each of COCO's ids, have to be cut to the classes beforehand.
    """
    from .convert_command import convert  # needs the whole package

    file = find_weights(name)
    converted = f"{os.path.splitext(file)[0]}.detr_d2.pth"
    if not os.path.isfile(converted):
        write_checkpoint(convert(read_weights(file), []), converted)
    return converted
