"""Any file of weights, read as data only: nothing in it is run.

``torch.load(weights_only=True)``, safetensors, and numpy arrays in Detectron2's and Caffe2's pickles.
"""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from detr_d2.errors import MissingFileError, UserError, WeightsError
from detr_d2.files import open_regular, refuse_special

from .conventions import InputConvention, convention_of
from .huggingface import check_supported, config_entries, labels_of, neighbouring_json
from .names import CAFFE2, HUGGING_FACE, PUBLISHED, convert_names
from .pickle_globals import foreign_globals
from .pickled_arrays import read_arrays
from .places import INDEX, find_weights

logger = logging.getLogger(__name__)

RECORD = "detr_d2"
"""The entry of our own checkpoints that says what the model is: its categories, and the config that builds it."""


@dataclass(frozen=True)
class WeightsFile:
    """What a file of weights holds.

    Args:
        path: of the local file.
        origin: what program's weights these are; see ``convert_names``.
        weights: under this project's names.
        record: what our own checkpoints say of themselves; empty for those of others.
        labels: class names of the outputs, without no-object, where Hugging Face's config.json gives them.
        convention: the pictures that the weights expect; None: nobody knows.
        entries: config keys that stand beside the weights, not in them.
        rest: the other entries of a checkpoint: iteration, optimizer and the like.
    """

    path: str
    origin: str
    weights: dict[str, Tensor]
    record: dict[str, Any] = field(default_factory=dict)
    labels: list[str] | None = None
    convention: InputConvention | None = None
    entries: dict[str, Any] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)


def read_weights(path: str) -> WeightsFile:
    """Read weights of any kind that the project knows.

    Args:
        path: as for :func:`find_weights`.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: it can't be fetched or read, or what it holds are no weights.
    """
    file = find_weights(path)
    content = _read(file)
    named = content.pop("model") if isinstance(content.get("model"), Mapping) else content
    tensors = _tensors(named, file)
    rest = content if named is not content else {}
    weights, origin = _named(tensors, file)
    if origin == CAFFE2:
        _add_statistics_(weights)
    # Detectron2's own checkpointer keeps what stands beside the tensors, and nothing else of ours.
    record = rest.pop(RECORD, None) or getattr(named, "_metadata", {}).get("", {}).get(RECORD)
    record = record if isinstance(record, dict) else {}
    if not isinstance(record.get("config", {}), dict):
        raise WeightsError(
            f"{file}: the config in it is a {type(record['config']).__name__}, no dict. Use another copy."
        )
    try:
        return WeightsFile(
            path=file, origin=origin, weights=weights, record=record, rest=rest, **_about(file, origin, record, rest)
        )
    except _ODD as error:
        if isinstance(error, UserError):
            raise
        where = "config.json or preprocessor_config.json beside it" if origin == HUGGING_FACE else "the config in it"
        raise WeightsError(
            f"{file}: {where} is damaged ({type(error).__name__}: {error}). Copy it again, or use another one."
        ) from error


#: What reading values of the wrong type raises.
_ODD = (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError)


def _named(tensors: dict[str, Tensor], file: str) -> tuple[dict[str, Tensor], str]:
    """The tensors under this project's names, and whose they are; each has to have a shape."""
    odd = [name for name, value in tensors.items() if name.endswith(("weight", "bias")) and not _has_shape(value)]
    if odd:
        raise WeightsError(f"{file}: {odd[0]} is of shape {tuple(tensors[odd[0]].shape)}. The file is damaged.")
    try:
        return convert_names(tensors)
    except RuntimeError as error:  # parts that don't go together
        raise WeightsError(f"{file} is damaged: {_first_sentence(error)}. Copy or fetch it again.") from error


def _has_shape(value: Tensor) -> bool:
    return value.dim() > 0 and value.numel() > 0


def _about(file: str, origin: str, record: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """What is known of weights beside their values: fields of :class:`WeightsFile`."""
    folder = os.path.dirname(file)
    config = neighbouring_json(folder, "config.json") if origin == HUGGING_FACE else {}
    preprocessor = neighbouring_json(folder, "preprocessor_config.json") if origin == HUGGING_FACE else {}
    if config:
        check_supported(config, file)
    author, recorded = str(rest.get("__author__", "")), record.get("config") or {}
    return {
        "labels": labels_of(config),
        "convention": convention_of(origin, author, recorded, preprocessor),
        "entries": config_entries(config) | _dilation(file, origin),
    }


def _dilation(file: str, origin: str) -> dict[str, Any]:
    """Published weights don't show whether res5 is dilated; the published files' names do."""
    name = os.path.basename(file)
    if origin != PUBLISHED or not re.match(r"detr-r\d+", name):
        return {}
    return {"MODEL.RESNETS.RES5_DILATION": 2 if "-dc5" in name else 1}


def _read(file: str) -> dict[str, Any]:
    """The dict in a file, by its content where the name says nothing."""
    _refuse_obvious(file)
    if file.endswith(INDEX):
        return _read_shards(file)
    if file.endswith(".safetensors"):
        try:
            return dict(load_file(file))
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(
                f"{file} is no safetensors file, or a truncated one ({_first_sentence(error)}): it has "
                f"{os.path.getsize(file)} bytes. Copy or fetch it again."
            ) from error
    return read_arrays(file) if file.endswith(".pkl") else _torch_load(file)


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
        tensors |= _read(path)
    return tensors


def _torch_load(file: str) -> dict[str, Any]:
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
        f"{file} is no checkpoint that can be read safely, or a truncated one ({type(error).__name__}). A checkpoint "
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
    except (OSError, zipfile.BadZipFile):
        members = ["data.pkl"]
    if not any(member.endswith("data.pkl") for member in members):
        return (
            f"{file} is a zip, but no checkpoint: it has {', '.join(members[:3]) or 'nothing'} in it. Name a file that "
            "torch.save or safetensors wrote."
        )
    return f"{file} is a damaged checkpoint ({_first_sentence(error)}). Copy or fetch it again."


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


def _tensors(named: Mapping[Any, Any], file: str) -> dict[str, Tensor]:
    """The weights as tensors; what the names promise must be there."""
    tensors: dict[str, Tensor] = {}
    for name, value in named.items():
        if isinstance(value, Tensor):
            tensors[str(name)] = value
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            tensors[str(name)] = torch.from_numpy(value.copy())
    if not tensors:
        entries = ", ".join(map(str, list(named)[:5])) or "none"
        raise WeightsError(
            f"{file} has no weights: neither an entry 'model' nor tensors of its own (its entries: {entries}). Name a "
            "checkpoint, such as a training's model_final.pth."
        )
    return tensors


def _add_statistics_(weights: dict[str, Tensor]) -> None:
    """Caffe2's batch norms are scale and shift only; the mean is 0 and the variance 1, with the epsilon inside."""
    for name in [name for name in weights if name.endswith(".norm.weight")]:
        stem = name.removesuffix("weight")
        weights.setdefault(stem + "running_mean", torch.zeros_like(weights[name]))
        weights.setdefault(stem + "running_var", torch.ones_like(weights[name]) - 1e-5)


def _first_sentence(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
