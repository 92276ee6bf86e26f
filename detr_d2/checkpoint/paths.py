"""The local file that holds the weights which a path, a folder, an address, a short name or a last run stands for.

Short names of published weights stand wherever Detectron2 takes a path: ``MODEL.WEIGHTS detr-r50-panoptic``.
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.error import HTTPError, URLError

from iopath.common.file_io import NativePathHandler

from detr_d2.errors import MissingFileError, WeightsError
from detr_d2.files import open_regular, refuse_special

from detectron2.utils.file_io import PathManager

from .names import PUBLISHED_WEIGHTS

INDEX = "model.safetensors.index.json"
LAST_CHECKPOINT = "last_checkpoint"

#: A checkpoint that was written on the way, by its iteration.
_NUMBERED = re.compile(r"model_(\d{7,})\.pth")
_IN_FOLDER = ("model.safetensors", INDEX, "pytorch_model.bin")


def find_weights(path: str) -> str:
    """The local file that ``MODEL.WEIGHTS`` names.

    Args:
        path: a file; a folder of Hugging Face; an address, which is fetched once and kept; or one of
            ``PUBLISHED_WEIGHTS``.

    Raises:
        MissingFileError: there is no such file, or nothing in the folder.
        SpecialFileError: the path leads to a pipe or a device.
        WeightsError: the address can't be fetched.
    """
    path = PUBLISHED_WEIGHTS.get(path, path)
    if is_address(path):
        return _fetch(path)
    if os.path.isdir(path):
        found = [file for name in _IN_FOLDER if os.path.exists(file := os.path.join(path, name))]
        if not found:
            raise MissingFileError(
                f"{path} is a folder without weights; a folder saved by Hugging Face's save_pretrained has one of "
                f"{', '.join(_IN_FOLDER)}. Name that folder, or a checkpoint file."
            )
        refuse_special(found[0])
        return found[0]
    refuse_special(path)
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


def is_address(path: str) -> bool:
    """Whether ``MODEL.WEIGHTS`` names something to be fetched."""
    return "://" in PUBLISHED_WEIGHTS.get(path, path)


def find_model_weights(path: str, is_frozen: bool) -> str:
    """The local file that a config's ``MODEL.WEIGHTS`` names; empty where it names none.

    Args:
        path: as for :func:`find_weights`, or empty.
        is_frozen: whether the detector is frozen, as stage 2 has it, and so needs weights.

    Raises:
        MissingFileError, SpecialFileError: see :func:`find_weights`.
        WeightsError: see there; or nothing is named for a detector that is frozen.
    """
    if not path and is_frozen:
        raise WeightsError(
            "MODEL.WEIGHTS is empty and MODEL.DETR.FREEZE_DETECTOR is on: a detector that never learnt would be "
            "frozen. Train stage 1 first and give its model_final.pth, or train jointly with "
            "MODEL.DETR.FREEZE_DETECTOR False."
        )
    try:
        return find_weights(path) if path else ""
    except MissingFileError as error:
        hint = " Stage 2 starts from the model_final.pth of stage 1." if is_frozen else ""
        raise MissingFileError(f"MODEL.WEIGHTS can't be loaded. {error}{hint}") from error


def last_checkpoint(folder: str) -> str:
    """The checkpoint that a run in ``folder`` goes on from with ``--resume``; empty where there was none.

    Raises:
        MissingFileError: the file ``last_checkpoint`` names a checkpoint that isn't there.
        SpecialFileError: it is no regular file.
        WeightsError: it doesn't hold a file's name.
    """
    tag = os.path.join(folder, LAST_CHECKPOINT)
    if not os.path.exists(tag):
        return ""
    with open_regular(tag) as file:
        content = file.read(5000)
    name = content.decode("utf-8", errors="replace").strip()
    if not name or not name.isprintable() or len(name) > 4096 or "\N{REPLACEMENT CHARACTER}" in name:
        raise WeightsError(
            f"{tag} doesn't hold the name of a checkpoint, so --resume has nothing to go on from. {_others(folder)}"
        )
    path = os.path.join(folder, name)
    refuse_special(path)
    if not os.path.isfile(path):
        raise MissingFileError(f"{tag} names {name}, which isn't there. {_others(folder)}")
    return path


def earlier_checkpoints(path: str) -> list[str]:
    """The other checkpoints that a run has written into the same folder, the newest first.

    Args:
        path: of one, ``model_0004999.pth`` or ``model_final.pth``; those with a larger number are left out, as they
            belong to an earlier run.
    """
    folder, name = os.path.split(path)
    numbered = [(found[0], int(found[1])) for found in map(_NUMBERED.fullmatch, os.listdir(folder or ".")) if found]
    own = _NUMBERED.fullmatch(name)
    limit = int(own[1]) if own else float("inf")
    earlier = [
        (os.path.getmtime(other), number, other)
        for other, number in ((os.path.join(folder, name), number) for name, number in numbered)
        if number < limit
    ]
    return [other for *_, other in sorted(earlier, reverse=True)]


def remove_old_checkpoints(folder: str, newest: str, keep: int) -> None:
    """Removes numbered checkpoints but for the newest.

    Args:
        folder: of the run.
        newest: name of the one that was written last; if it has no number, nothing is removed.
        keep: how many stay, with that one; 0: all.
    """
    if not keep or not _NUMBERED.fullmatch(newest):
        return
    for path in earlier_checkpoints(os.path.join(folder, newest))[keep - 1 :]:
        os.unlink(path)


def _others(folder: str) -> str:
    """What can be done where ``last_checkpoint`` is of no use."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".pth") and name != "model_best.pth")
    found = f"Write one of these names into it: {', '.join(names[-5:])}; or" if names else "Remove it, or"
    return f"{found} train without --resume."


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
    from .formats import write_checkpoint  # these need the whole package
    from .model_file import convert
    from .reading import read_weights

    file = find_weights(name)
    converted = f"{os.path.splitext(file)[0]}.detr_d2.pth"
    if not os.path.isfile(converted):
        write_checkpoint(convert(read_weights(file), []), converted)
    return converted
