"""From the parameter names of other programs to this project's, recognised by content.

Source: the names are those of facebookresearch/detr's published checkpoints (and of its Detectron2 wrapper's), of
torchvision's, Detectron2's and Caffe2's ResNets, and of ``transformers``' DetrForObjectDetection and
DetrForSegmentation, as saved (the same since 4.x) and as they stand in memory since 5.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from detr_d2.errors import WeightsError

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

OURS = "detr_d2"
PUBLISHED = "published DETR"
HUGGING_FACE = "Hugging Face DETR"
TORCHVISION = "torchvision ResNet"
DETECTRON2 = "Detectron2 ResNet"
CAFFE2 = "Caffe2 ResNet"
UNKNOWN = "unknown"

_DETECTOR_PARTS = ("transformer.", "class_embed.", "bbox_embed.", "query_embed.", "input_proj.", "backbone.")

_Renames = list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]

_RESNET_RENAMES: _Renames = [
    (re.compile(r"^(conv1|bn1)\."), r"stem.\1."),
    (re.compile(r"^layer(\d)\."), lambda match: f"res{int(match[1]) + 1}."),
    (re.compile(r"\.downsample\.0\."), ".shortcut."),
    (re.compile(r"\.downsample\.1\."), ".shortcut.norm."),
    (re.compile(r"\.bn(\d)\."), r".conv\1.norm."),
]

_CAFFE2_RENAMES: _Renames = [
    (re.compile(r"^(res_)?conv1_"), "stem.conv1_"),
    (re.compile(r"^res(\d)_(\d+)_"), r"res\1.\2."),
    (re.compile(r"branch1_"), "shortcut_"),
    (re.compile(r"branch2([abc])_"), lambda match: f"conv{'abc'.index(match[1]) + 1}_"),
    (re.compile(r"_bn_s$"), ".norm.weight"),
    (re.compile(r"_bn_b$"), ".norm.bias"),
    (re.compile(r"_w$"), ".weight"),
]

_IN_DETECTRON2_MODEL = re.compile(r"^backbone\.(bottom_up\.)?(?=stem\.|res\d\.)")

_HUGGING_FACE_RENAMES: _Renames = [
    (re.compile(pattern), replacement)
    for pattern, replacement in {
        r"^detr\.": "",
        r"^model\.backbone\.(conv_encoder\.)?model\.": "backbone.",
        r"^backbone\.embedder\.embedder\.": "backbone.stem.layer.0.",
        r"^backbone\.encoder\.stages\.0\.layers\.": "backbone.res2.",
        r"^backbone\.encoder\.stages\.1\.layers\.": "backbone.res3.",
        r"^backbone\.encoder\.stages\.2\.layers\.": "backbone.res4.",
        r"^backbone\.encoder\.stages\.3\.layers\.": "backbone.res5.",
        r"\.layer\.0\.(?=convolution|normalization)": ".conv1.",
        r"\.layer\.1\.(?=convolution|normalization)": ".conv2.",
        r"\.layer\.2\.(?=convolution|normalization)": ".conv3.",
        r"\.convolution\.": ".",
        r"\.normalization\.": ".norm.",
        r"^model\.input_projection\.": "input_proj.",
        r"^model\.query_position_embeddings\.": "query_embed.",
        r"^class_labels_classifier\.": "class_embed.",
        r"^bbox_predictor\.": "bbox_embed.",
        r"^model\.(en|de)coder\.": r"transformer.\1coder.",
        r"^transformer\.(en|de)coder\.layernorm\.": r"transformer.\1coder.norm.",
        r"\.self_attn_layer_norm\.": ".norm1.",
        r"\.encoder_attn_layer_norm\.": ".norm2.",
        r"(^transformer\.encoder.*)\.final_layer_norm\.": r"\1.norm2.",
        r"(^transformer\.decoder.*)\.final_layer_norm\.": r"\1.norm3.",
        r"\.encoder_attn\.": ".multihead_attn.",
        r"(attn)\.o_proj\.": r"\1.out_proj.",
        r"\.(mlp\.)?fc([12])\.": r".linear\2.",
        r"^bbox_attention\.([qk])_proj\.": r"bbox_attention.\1_linear.",
        r"^mask_head\.conv([12])\.conv\.": r"mask_head.lay\1.",
        r"^mask_head\.conv([12])\.norm\.": r"mask_head.gn\1.",
        r"^mask_head\.fpn_stages\.0\.refine\.": "mask_head.3.",
        r"^mask_head\.fpn_stages\.1\.refine\.": "mask_head.4.",
        r"^mask_head\.fpn_stages\.2\.refine\.": "mask_head.5.",
        r"^mask_head\.(\d)\.conv\.": r"mask_head.lay\1.",
        r"^mask_head\.(\d)\.norm\.": r"mask_head.gn\1.",
        r"^mask_head\.fpn_stages\.0\.fpn_adapter\.": "mask_head.adapter1.",
        r"^mask_head\.fpn_stages\.1\.fpn_adapter\.": "mask_head.adapter2.",
        r"^mask_head\.fpn_stages\.2\.fpn_adapter\.": "mask_head.adapter3.",
        r"^mask_head\.output_conv\.": "mask_head.out_lay.",
    }.items()
]

_PROJECTION = re.compile(r"^(transformer\..*_attn)\.([qkv])_proj\.(weight|bias)$")

Value = TypeVar("Value")


def convert_names(weights: Mapping[str, Value]) -> tuple[dict[str, Value], str]:
    """Rename weights to this project's names.

    Args:
        weights: a state dict of this project, of facebookresearch/detr (boxes or panoptic), of Hugging Face's DETR, or
            with a ResNet (of torchvision, Caffe2 or Detectron2; a detector around the latter is left out).

    Returns:
        The same values under this project's names, and what they are: "detr_d2", "published DETR", "Hugging Face DETR",
        "torchvision ResNet", "Detectron2 ResNet", "Caffe2 ResNet" or "unknown" (names are then unchanged).
    """
    weights = {name.removeprefix("module."): value for name, value in weights.items()}
    origin = _recognise(weights)
    if origin == PUBLISHED:
        return {_from_published(name): value for name, value in weights.items()}, origin
    if origin == HUGGING_FACE:
        return {_prefixed(name): value for name, value in _from_huggingface(weights).items()}, origin
    if origin == TORCHVISION:
        body = {name: value for name, value in weights.items() if not name.startswith("fc.")}
        return {f"detr.backbone.{rename_resnet(name)}": value for name, value in body.items()}, origin
    if origin == DETECTRON2:
        inner = {_IN_DETECTRON2_MODEL.sub("", name): value for name, value in weights.items()}
        body = {name: value for name, value in inner.items() if re.match(r"(stem\.(?!fc)|res\d\.)", name)}
        return {f"detr.backbone.{name}": value for name, value in body.items()}, origin
    if origin == CAFFE2:
        body = {name: value for name, value in weights.items() if re.match(r"(conv1|res_conv1|res\d)_", name)}
        body = {name: value for name, value in body.items() if not name.endswith("_b") or name.endswith("_bn_b")}
        return {f"detr.backbone.{_apply(_CAFFE2_RENAMES, name)}": value for name, value in body.items()}, origin
    return weights, origin


def rename_resnet(name: str) -> str:
    """torchvision's name of a ResNet parameter to Detectron2's: ``layer1.0.bn2.bias`` to ``res2.0.conv2.norm.bias``."""
    return _apply(_RESNET_RENAMES, name)


def _apply(renames: _Renames, name: str) -> str:
    for pattern, replacement in renames:
        name = pattern.sub(replacement, name)
    return name


def _recognise(names: Mapping[str, object]) -> str:
    if any(name.startswith(("detr.backbone.stem.", "detr.backbone.res")) for name in names):
        return OURS
    if any(re.match(r"(detr\.)*(transformer\.(en|de)coder|backbone\.0\.(body|backbone))\.", name) for name in names):
        return PUBLISHED
    if any(re.match(r"(detr\.)?class_labels_classifier\.", name) for name in names):
        return HUGGING_FACE
    if any(name.startswith("layer1.0.") for name in names):
        return TORCHVISION
    if any(_IN_DETECTRON2_MODEL.sub("", name).startswith("res2.0.") for name in names):
        return DETECTRON2
    return CAFFE2 if any(name.startswith("res2_0_branch") for name in names) else UNKNOWN


def _from_published(name: str) -> str:
    while name.startswith("detr."):
        name = name.removeprefix("detr.")
    if name.startswith("backbone.0.body."):
        name = "backbone." + rename_resnet(name.removeprefix("backbone.0.body."))
    return _prefixed(name.replace("backbone.0.backbone.", "backbone.", 1))


def _prefixed(name: str) -> str:
    """The detector's parts stand in ``detr``; the mask head's stand beside it."""
    if name.startswith(("backbone.conv1.", "backbone.bn1.", "backbone.layer")):
        name = "backbone." + rename_resnet(name.removeprefix("backbone."))
    return f"detr.{name}" if name.startswith(_DETECTOR_PARTS) else name


def _from_huggingface(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Weights under the published names, the backbone's as torchvision's or as Detectron2's.

    Queries', keys' and values' projections, three tensors there, are one here, as in ``nn.MultiheadAttention``.
    """
    renamed: dict[str, Value] = {}
    projections: dict[str, dict[str, Any]] = {}
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        name = _apply(_HUGGING_FACE_RENAMES, name)
        part = _PROJECTION.match(name)
        if part is None:
            renamed[name] = value
        else:
            projections.setdefault(f"{part[1]}.in_proj_{part[3]}", {})[part[2]] = value
    for name, parts in projections.items():
        if len(parts) < 3:
            absent = ", ".join(letter + "_proj" for letter in "qkv" if letter not in parts)
            raise WeightsError(f"The weights of {name} are incomplete: {absent} is absent. Copy the file again.")
        renamed[name] = torch.cat([parts["q"], parts["k"], parts["v"]])  # type: ignore[assignment]
    return renamed
