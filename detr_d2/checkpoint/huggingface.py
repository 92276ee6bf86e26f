"""Hugging Face's DETR: its parameter names, and the config.json that ``save_pretrained`` puts beside the weights.

Source: the names are those of ``transformers``' DetrForObjectDetection and DetrForSegmentation, as saved (the same
since 4.x) and as they stand in memory since 5.0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from detr_d2.errors import WeightsError
from detr_d2.labels.rules.json_files import load_json

_RENAMES = [
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


def is_huggingface(names: Mapping[str, object]) -> bool:
    """Whether these are the names of one of Hugging Face's DETR models with heads."""
    return any(re.match(r"(detr\.)?class_labels_classifier\.", name) for name in names)


def from_huggingface(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Weights under the published names, the backbone's as torchvision's or as Detectron2's.

    Queries', keys' and values' projections, three tensors there, are one here, as in ``nn.MultiheadAttention``.
    """
    renamed: dict[str, Value] = {}
    projections: dict[str, dict[str, Any]] = {}
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)
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


def neighbouring_json(folder: str, file: str) -> dict[str, Any]:
    """What a JSON file beside the weights says; empty if there is none.

    Raises:
        WeightsError: it is no JSON object.
    """
    path = os.path.join(folder, file)
    if not os.path.exists(path):
        return {}
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} can't be read as JSON: {error}. Copy the folder again.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__} where an object is expected. Copy it again.")
    return content


def check_supported(config: Mapping[str, Any], path: str) -> None:
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


def config_entries(config: Mapping[str, Any]) -> dict[str, Any]:
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


def labels_of(config: Mapping[str, Any]) -> list[str] | None:
    """Class names in the order of the outputs, without no-object; None where nobody gave them any."""
    table = config.get("id2label") or {}
    try:
        names = [str(table[key]) for key in sorted(table, key=int)]
    except ValueError:
        return None
    named = [name for name in names if not re.fullmatch(r"LABEL_\d+", name)]
    return names if named else None
