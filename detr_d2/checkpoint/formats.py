"""Files of weights on disk: read as data only, so that nothing in them is run, and written whole or not at all.

``torch.load(weights_only=True)``, safetensors, and numpy arrays in Detectron2's and Caffe2's pickles.
"""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from detr_d2.errors import MissingFileError, WeightsError
from detr_d2.files import open_regular, refuse_special, uninterrupted, write_whole

from .huggingface import neighbouring_json
from .paths import INDEX
from .pickles import foreign_globals, read_arrays


def read_content(file: str) -> dict[str, Any]:
    """The dict in a file of weights, by its content where the name says nothing.

    Raises:
        MissingFileError: a part of it isn't there.
        WeightsError: it can't be read as plain data; the message says what it is instead.
    """
    _refuse_obvious(file)
    if file.endswith(INDEX):
        return _read_shards(file)
    if file.endswith(".safetensors"):
        try:
            return dict(load_file(file))
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(
                f"{file} is no safetensors file, or a truncated one ({first_sentence(error)}): it has "
                f"{os.path.getsize(file)} bytes. Copy or fetch it again."
            ) from error
    return read_arrays(file) if file.endswith(".pkl") else _torch_load(file)


def write_checkpoint(content: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write tensors and plain data; what stood there before stays until all is written and on the disk.

    ``torch.save`` writes a zip with a checksum (CRC-32) of each tensor, which :func:`read_content` looks at, as does
    ``unzip -t``.

    Raises:
        OSError: what the system refused, such as for want of space; it names the path.
        KeyboardInterrupt: it was interrupted, and is written all the same.
    """
    # torch's writer, interrupted, aborts the process when it is taken down.
    with uninterrupted():
        return write_whole(path, lambda file: torch.save(dict(content), file), outlasts_power_cut=True)


def _read_shards(index: str) -> dict[str, Any]:
    folder, name = os.path.split(index)
    table = neighbouring_json(folder, name).get("weight_map")
    if not isinstance(table, dict) or not table or not all(isinstance(shard, str) for shard in table.values()):
        raise WeightsError(
            f"{index} has no 'weight_map' that names a file for each tensor, so that nobody knows where the weights "
            "are. Copy the folder again."
        )
    tensors: dict[str, Any] = {}
    for shard in sorted(set(table.values())):
        if os.path.basename(shard) != shard or not shard.endswith(".safetensors"):
            raise WeightsError(f"{index} names {shard!r}; parts of a model are .safetensors files beside it.")
        path = os.path.join(folder, shard)
        refuse_special(path)
        if not os.path.isfile(path):
            raise MissingFileError(f"{index} names {shard}, which isn't there. Copy the folder again.")
        tensors |= read_content(path)
    return tensors


def _torch_load(file: str) -> dict[str, Any]:
    _refuse_changed(file)
    try:
        # facebookresearch/detr keeps its options, a Namespace of plain values, in its checkpoints.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything
        raise WeightsError(_why_unreadable(file, error)) from error
    if not isinstance(loaded, dict):
        raise WeightsError(
            f"{file} holds a {type(loaded).__name__}; a checkpoint is a dict with the entry 'model'. Name one, such "
            "as a training's model_final.pth."
        )
    return loaded


def _refuse_changed(file: str) -> None:
    """Compares what is in a checkpoint with the checksums in it, which torch doesn't look at."""
    if not zipfile.is_zipfile(file):
        return
    try:
        archive = zipfile.ZipFile(file)
    except Exception:  # a damaged zip raises anything; what reads it next says why
        return
    with archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            return  # torch packs nothing, and what is packed may be of any size
        members = archive.namelist()
        changed, others = "", 0
        for member in members:
            if _is_as_written(archive, member):
                others += 1
            else:
                changed = changed or member
            if changed and others:  # without any that is right, the file was written without checksums
                raise WeightsError(
                    f"{file} isn't as it was written: its entry {changed} doesn't match its checksum (CRC-32). Copy it "
                    "again, or use an earlier checkpoint."
                )


def _is_as_written(archive: zipfile.ZipFile, member: str) -> bool:
    try:
        with archive.open(member) as stream:
            while stream.read(2**20):
                pass
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        return False
    return True


def _why_unreadable(file: str, error: Exception) -> str:
    """One message, without torch's advice to read the file in an unsafe way."""
    with open_regular(file) as stream:
        start = stream.read(4)
    foreign = foreign_globals(file)
    if foreign or (start.startswith(b"\x80") and isinstance(error, pickle.UnpicklingError)):
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        what = f"it holds {', '.join(foreign[:3])}{more}, and" if foreign else "it is one, and"
        return (
            f"{file} needs pickle: {what} a checkpoint that is read safely holds tensors and plain data only. Convert "
            "it where you trust it: load it there, and save its tensors with "
            'torch.save({"model": model.state_dict()}, "weights.pth").'
        )
    if start == b"PK\x03\x04":
        return _why_no_archive(file, error)
    return (
        f"{file} is no checkpoint that can be read safely, or a truncated one; it begins with {start!r}. A checkpoint "
        "holds tensors and plain data, as torch.save and safetensors write them. Name another file, or fetch it again."
    )


def _why_no_archive(file: str, error: Exception) -> str:
    """What is wrong with a zip, which checkpoints are."""
    if not zipfile.is_zipfile(file):
        return (
            f"{file} is a truncated or damaged checkpoint: its {os.path.getsize(file)} bytes don't end as they "
            "should. Copy or fetch it again."
        )
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
    except Exception:  # a damaged zip raises anything
        members = ["data.pkl"]
    if not any(member.endswith("data.pkl") for member in members):
        return (
            f"{file} is a zip, but no checkpoint: it has {', '.join(members[:3]) or 'nothing'} in it. Name a file that "
            "torch.save or safetensors wrote."
        )
    return f"{file} is a damaged checkpoint ({first_sentence(error)}). Copy or fetch it again."


def _refuse_obvious(file: str) -> None:
    """What is often saved in a checkpoint's place."""
    with open_regular(file) as stream:
        start = stream.read(64)
    found = ""
    if not start:
        found = "is empty"
    elif start.startswith(b"version https://git-lfs"):
        found = "is a pointer of Git LFS, not the file itself; run 'git lfs pull' there"
    elif start.lstrip()[:1] == b"<":
        found = "is a web page"
    if found:
        raise WeightsError(f"{file} {found} ({os.path.getsize(file)} bytes), no checkpoint. Fetch it again.")


def first_sentence(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
