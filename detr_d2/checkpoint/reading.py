"""Any file of weights, under this project's names and with what is known of it: whose it is, and for which images."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detr_d2.errors import UserError, WeightsError

from .formats import first_sentence, neighbouring_json, read_content
from .names import CAFFE2, HUGGING_FACE, PUBLISHED, convert_names
from .paths import find_weights
from .recipe import convention_of

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
        convention: config keys of the images that the weights expect; see ``convention_of``.
        entries: config keys that stand beside the weights, not in them.
        rest: the other entries of a checkpoint: iteration, optimizer and the like.
    """

    path: str
    origin: str
    weights: dict[str, Tensor]
    record: dict[str, Any] = field(default_factory=dict)
    labels: list[str] | None = None
    convention: dict[str, Any] = field(default_factory=dict)
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
    content = read_content(file)
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
        raise WeightsError(f"{file} is damaged: {first_sentence(error)}. Copy or fetch it again.") from error


def _has_shape(value: Tensor) -> bool:
    return value.dim() > 0 and value.numel() > 0


def _about(file: str, origin: str, record: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """What is known of weights beside their values: fields of :class:`WeightsFile`."""
    folder = os.path.dirname(file)
    config = neighbouring_json(folder, "config.json") if origin == HUGGING_FACE else {}
    preprocessor = neighbouring_json(folder, "preprocessor_config.json") if origin == HUGGING_FACE else {}
    if config:
        _check_supported(config, file)
    author, recorded = str(rest.get("__author__", "")), record.get("config") or {}
    return {
        "labels": _labels_of(config),
        "convention": convention_of(origin, author, recorded, preprocessor),
        "entries": _config_entries(config) | _dilation(file, origin),
    }


def _dilation(file: str, origin: str) -> dict[str, Any]:
    """Published weights don't show whether res5 is dilated; the published files' names do."""
    name = os.path.basename(file)
    if origin != PUBLISHED or not re.match(r"detr-r\d+", name):
        return {}
    return {"MODEL.RESNETS.RES5_DILATION": 2 if "-dc5" in name else 1}


def _tensors(named: Mapping[Any, Any], file: str) -> dict[str, Tensor]:
    """The weights as tensors; what the names promise must be there."""
    tensors: dict[str, Tensor] = {}
    for name, value in named.items():
        if isinstance(value, Tensor):
            tensors[str(name)] = _plain(value, str(name), file)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            tensors[str(name)] = torch.from_numpy(value.copy())
    if not tensors:
        entries = ", ".join(map(str, list(named)[:5])) or "none"
        raise WeightsError(
            f"{file} has no weights: neither an entry 'model' nor tensors of its own (its entries: {entries}). Name a "
            "checkpoint, such as a training's model_final.pth."
        )
    return tensors


#: Bytes that a tensor may take of which the file has fewer, as of one value for all places.
_MOST_OF_A_VIEW = 64 * 2**20


def _plain(value: Tensor, name: str, file: str) -> Tensor:
    """The tensor itself, if it holds a number at each of its places, as weights do."""
    if wrong := tensor_problem(value, _MOST_OF_A_VIEW):
        raise WeightsError(f"{file}: {name} {wrong}; weights are dense tensors of real numbers. Name another file.")
    return value


def tensor_problem(value: Tensor, most_of_a_view: int = 0) -> str | None:
    """Why a tensor from a file holds no real number at each of its places, a clause; None where it does.

    A file of some bytes can describe a view of any size, which would take all memory once it is copied.

    Args:
        value: as the file gave it.
        most_of_a_view: bytes that it may take though the file has fewer.
    """
    size = value.numel() * value.element_size()
    if value.layout != torch.strided:
        return "is sparse"
    if value.device.type != "cpu":
        return "has no values"
    if value.is_complex() or value.is_quantized:
        return f"is of {value.dtype}"
    if size > max(there := value.untyped_storage().nbytes(), most_of_a_view):
        return f"would take {size} bytes, of {there} bytes in the file"
    return None


def _add_statistics_(weights: dict[str, Tensor]) -> None:
    """Caffe2's batch norms are scale and shift only; the mean is 0 and the variance 1, with the epsilon inside."""
    for name in [name for name in weights if name.endswith(".norm.weight")]:
        stem = name.removesuffix("weight")
        weights.setdefault(stem + "running_mean", torch.zeros_like(weights[name]))
        weights.setdefault(stem + "running_var", torch.ones_like(weights[name]) - 1e-5)


def _check_supported(config: Mapping[str, Any], path: str) -> None:
    """Refuse a config.json of a network that this project's can't be.

    Raises:
        WeightsError: another model, learnt positions, another activation, or a stride at another place.
    """
    backbone = config.get("backbone_config") or {}
    allowed = {
        "model_type": (config.get("model_type"), ("detr",)),
        "position_embedding_type": (config.get("position_embedding_type"), ("sine",)),
        "activation_function": (config.get("activation_function"), ("relu",)),
        "decoder_attention_heads": (config.get("decoder_attention_heads"), (config.get("encoder_attention_heads"),)),
        "backbone_config.downsample_in_bottleneck": (backbone.get("downsample_in_bottleneck"), (False,)),
    }
    for key, (found, choices) in allowed.items():
        if found is not None and found not in choices:
            raise WeightsError(f"{path}: {key} in config.json is {found!r}; this project's network has {choices[0]!r}.")


def _config_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config keys of this project that a config.json says and weights alone don't: heads and dilation."""
    if not config:
        return {}
    backbone = config.get("backbone_config")
    # "dilation" counts only where no backbone is described; it is then that of timm.
    dilated = backbone.get("output_stride") == 16 if backbone else bool(config.get("dilation"))
    entries: dict[str, Any] = {"MODEL.RESNETS.RES5_DILATION": 2 if dilated else 1}
    if config.get("encoder_attention_heads"):
        entries["MODEL.DETR.NHEADS"] = int(config["encoder_attention_heads"])
    return entries


def _labels_of(config: Mapping[str, Any]) -> list[str] | None:
    """Class names in the order of the outputs, without no-object; None where nobody gave them any."""
    table = config.get("id2label") or {}
    try:
        names = [str(table[key]) for key in sorted(table, key=int)]
    except ValueError:
        return None
    named = [name for name in names if not re.fullmatch(r"LABEL_\d+", name)]
    return names if named else None
