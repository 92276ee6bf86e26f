"""Where weights are: a file, a folder of Hugging Face, an address that is fetched once, or a short name."""

from __future__ import annotations

import os
from urllib.error import HTTPError, URLError

from detr_d2.errors import MissingFileError, WeightsError

from detectron2.utils.file_io import PathManager

from .names import PUBLISHED_WEIGHTS

INDEX = "model.safetensors.index.json"

_IN_FOLDER = ("model.safetensors", INDEX, "pytorch_model.bin")


def find_weights(path: str) -> str:
    """The local file that ``MODEL.WEIGHTS`` names.

    Args:
        path: a file; a folder of Hugging Face; an address, which is fetched once and kept; or one of
            ``PUBLISHED_WEIGHTS``.

    Raises:
        MissingFileError: there is no such file, or nothing in the folder.
        WeightsError: the address can't be fetched.
    """
    path = PUBLISHED_WEIGHTS.get(path, path)
    if "://" in path:
        return _fetch(path)
    if os.path.isdir(path):
        found = [file for name in _IN_FOLDER if os.path.isfile(file := os.path.join(path, name))]
        if not found:
            raise MissingFileError(
                f"{path} is a folder without weights; a folder saved by Hugging Face's save_pretrained has one of "
                f"{', '.join(_IN_FOLDER)}. Name that folder, or a checkpoint file."
            )
        return found[0]
    if not os.path.isfile(path):
        raise MissingFileError(
            f"There are no weights {path!r} (looked in {os.getcwd()}). Give a checkpoint, a folder saved by "
            f"save_pretrained, an address or one of {', '.join(PUBLISHED_WEIGHTS)}."
        )
    return path


def weight_files(path: str) -> list[str]:
    """The local files that weights come from, for outputs that mustn't replace them.

    Args:
        path: as for :func:`find_weights`; of a folder all files are named, as several are read.
    """
    path = PUBLISHED_WEIGHTS.get(path, path)
    if os.path.isdir(path):
        return [entry.path for entry in os.scandir(path) if entry.is_file()]
    return [path] if os.path.isfile(path) else []


def _fetch(address: str) -> str:
    try:
        return str(PathManager.get_local_path(address))
    except (OSError, ValueError, AssertionError) as error:
        reason = f"HTTP {error.code}" if isinstance(error, HTTPError) else str(getattr(error, "reason", error))
        hint = "It isn't there" if isinstance(error, HTTPError) and error.code == 404 else "There may be no network"
        hint = hint if isinstance(error, (HTTPError, URLError)) else "The address or the cache may be wrong"
        raise WeightsError(
            f"MODEL.WEIGHTS is {address}, which can't be fetched: {reason}. {hint}. Fetch the file by other means and "
            'give its path as MODEL.WEIGHTS, or train without: MODEL.WEIGHTS "".'
        ) from error
