"""From the parameter names of other programs to this project's, recognised by content.

Source: the names are those of facebookresearch/detr's published checkpoints, torchvision's and Detectron2's ResNets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

PUBLISHED_ADDRESS = "https://dl.fbaipublicfiles.com/detr/"

PUBLISHED_WEIGHTS = {
    name: PUBLISHED_ADDRESS + file
    for name, file in {
        "detr-r50": "detr-r50-e632da11.pth",
        "detr-r50-dc5": "detr-r50-dc5-f0fb7ef5.pth",
        "detr-r101": "detr-r101-2c7b67e5.pth",
        "detr-r101-dc5": "detr-r101-dc5-a2e86def.pth",
        "detr-r50-panoptic": "detr-r50-panoptic-00ce5173.pth",
        "detr-r50-dc5-panoptic": "detr-r50-dc5-panoptic-da08f1b1.pth",
        "detr-r101-panoptic": "detr-r101-panoptic-40021d53.pth",
    }.items()
}
"""Short names that ``MODEL.WEIGHTS`` takes, and the addresses they stand for."""

_DETECTOR_PARTS = ("transformer.", "class_embed.", "bbox_embed.", "query_embed.", "input_proj.", "backbone.")

_RESNET_RENAMES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"^(conv1|bn1)\."), r"stem.\1."),
    (re.compile(r"^layer(\d)\."), lambda match: f"res{int(match[1]) + 1}."),
    (re.compile(r"\.downsample\.0\."), ".shortcut."),
    (re.compile(r"\.downsample\.1\."), ".shortcut.norm."),
    (re.compile(r"\.bn(\d)\."), r".conv\1.norm."),
]

Value = TypeVar("Value")


def convert_names(weights: Mapping[str, Value]) -> tuple[dict[str, Value], str]:
    """Rename weights to this project's names.

    Args:
        weights: a state dict of this project, of facebookresearch/detr (boxes or panoptic), or a ResNet alone (of
            torchvision or Detectron2).

    Returns:
        The same values under this project's names, and what they are: "detr_d2", "published DETR",
        "torchvision ResNet", "Detectron2 ResNet" or "unknown" (names are then unchanged).
    """
    origin = _recognise(weights)
    if origin == "published DETR":
        return {_from_published(name): value for name, value in weights.items()}, origin
    if origin == "torchvision ResNet":
        body = {name: value for name, value in weights.items() if not name.startswith("fc.")}
        return {f"detr.backbone.{rename_resnet(name)}": value for name, value in body.items()}, origin
    if origin == "Detectron2 ResNet":
        body = {name: value for name, value in weights.items() if re.match(r"(stem\.(?!fc)|res\d\.)", name)}
        return {f"detr.backbone.{name}": value for name, value in body.items()}, origin
    return dict(weights), origin


def rename_resnet(name: str) -> str:
    """torchvision's name of a ResNet parameter to Detectron2's: ``layer1.0.bn2.bias`` to ``res2.0.conv2.norm.bias``."""
    for pattern, replacement in _RESNET_RENAMES:
        name = pattern.sub(replacement, name)
    return name


def _recognise(names: Mapping[str, object]) -> str:
    if any(name.startswith(("detr.backbone.stem.", "detr.backbone.res")) for name in names):
        return "detr_d2"
    if any(re.match(r"(detr\.)?(transformer\.(en|de)coder|backbone\.0\.body)\.", name) for name in names):
        return "published DETR"
    if any(name.startswith("layer1.0.") for name in names):
        return "torchvision ResNet"
    if any(name.startswith("res2.0.") for name in names):
        return "Detectron2 ResNet"
    return "unknown"


def _from_published(name: str) -> str:
    name = name.removeprefix("detr.")
    if name.startswith("backbone.0.body."):
        name = "backbone." + rename_resnet(name.removeprefix("backbone.0.body."))
    return f"detr.{name}" if name.startswith(_DETECTOR_PARTS) else name
