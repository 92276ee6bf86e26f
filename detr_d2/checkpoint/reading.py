"""Any file of weights, under this project's names and with what is known of it: whose it is, and for which images.

Source of the conventions: torchvision's ImageNet models (RGB), and Caffe2's ResNets as Detectron2's model zoo uses them
(BGR).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detr_d2.errors import UserError, WeightsError

from .formats import first_sentence, read_content
from .huggingface import check_supported, config_entries, labels_of, neighbouring_json
from .names import CAFFE2, DETECTRON2, HUGGING_FACE, OURS, PUBLISHED, TORCHVISION, convert_names
from .paths import find_weights

RECORD = "detr_d2"
"""The entry of our own checkpoints that says what the model is: its categories, and the config that builds it."""

FORMAT, MEAN, STD = "INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"


def _convention(channels: str, mean: Iterable[float], std: Iterable[float]) -> dict[str, Any]:
    return {FORMAT: channels, MEAN: list(mean), STD: list(std)}


#: What the config keys of images are for networks of two origins; means and deviations are of values in 0..255.
IMAGENET_RGB = _convention("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CAFFE2_BGR = _convention("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))


def convention_of(
    origin: str, author: str, recorded: Mapping[str, Any], preprocessor: Mapping[str, Any]
) -> dict[str, Any]:
    """The config keys of the images that weights of an origin expect: format, mean and std; none where nobody knows.

    Args:
        origin: see ``convert_names``.
        author: who Detectron2's file says made it.
        recorded: config keys that our own checkpoint holds.
        preprocessor: Hugging Face's preprocessor_config.json.
    """
    if origin == HUGGING_FACE and preprocessor.get("image_mean") and preprocessor.get("image_std"):
        scaled = [[round(255 * value, 4) for value in preprocessor[key]] for key in ("image_mean", "image_std")]
        return _convention("RGB", *scaled)
    if origin in (PUBLISHED, HUGGING_FACE, TORCHVISION) or (origin == DETECTRON2 and author == "torchvision"):
        return IMAGENET_RGB
    if origin == CAFFE2 or (origin == DETECTRON2 and author):
        return CAFFE2_BGR
    if origin == OURS and all(key in recorded for key in (FORMAT, MEAN, STD)):
        return _convention(str(recorded[FORMAT]), recorded[MEAN], recorded[STD])
    return {}


@dataclass(frozen=True)
class WeightsFile:
    """What a file of weights holds.

    Args:
        path: of the local file.
        origin: what program's weights these are; see ``convert_names``.
        weights: under this project's names.
        record: what our own checkpoints say of themselves; empty for those of others.
        labels: class names of the outputs, without no-object, where Hugging Face's config.json gives them.
        convention: config keys of the images that the weights expect; see :func:`convention_of`.
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


def refuse_other_images(file: WeightsFile, config: Mapping[str, Any]) -> None:
    """Refuse a config whose images look other than those that the weights were trained with.

    Args:
        file: of weights.
        config: keys and values that the model was built with; keys that aren't there aren't looked at.

    Raises:
        WeightsError: naming each key to change, what it is and what it must be.
    """
    wrong = {key: value for key, value in file.convention.items() if key in config and not _same(config[key], value)}
    if wrong:
        found = ", ".join(f"{key} is {_shown(config[key])}" for key in wrong)
        fix = " ".join(f"{key} {_shown(value, quoted=True)}" for key, value in wrong.items())
        raise WeightsError(
            f"{file.path} ({file.origin}) was trained on other images than the config makes: {found}. Set {fix}."
        )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    return len(a) == len(b) and all(abs(x - y) < 0.5 for x, y in zip(a, b))


def _shown(value: str | Sequence[float], quoted: bool = False) -> str:
    if isinstance(value, str):
        return value
    text = "[" + ", ".join(f"{number:g}" for number in value) + "]"
    return f'"{text}"' if quoted else text
