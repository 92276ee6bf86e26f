"""What a file of weights is, in words and as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .class_heads import WEIGHT, head_classes
from .reading import WeightsFile
from .recipe import deduced_recipe


@dataclass(frozen=True)
class Description:
    """What is known of a file of weights; None and empty where nothing says it.

    Args:
        path: of the local file.
        origin: the program whose weights these are.
        kind: "panoptic", "boxes", "backbone" or "unknown".
        backbone: such as "ResNet-50".
        dilated: whether res5 is dilated (DC5).
        hidden_dim, heads, encoder_layers, decoder_layers, queries: of the transformer.
        outputs: of the class head, no-object included.
        things, stuff: names of the classes that are known to be one or the other.
        classes: all names of classes, in the order of the outputs.
        format: order of the pictures' channels.
        mean, std: of the pictures' channels, in 0..255.
        tensors, parameters: how many.
        iteration: after which our training saved it.
    """

    path: str
    origin: str
    kind: str
    backbone: str | None
    dilated: bool | None
    hidden_dim: int | None
    heads: int | None
    encoder_layers: int | None
    decoder_layers: int | None
    queries: int | None
    outputs: int | None
    things: list[str]
    stuff: list[str]
    classes: list[str]
    format: str | None
    mean: list[float] | None
    std: list[float] | None
    tensors: int
    parameters: int
    iteration: int | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def describe(file: WeightsFile) -> Description:
    """Say what a file is, from its names, shapes, record and neighbours.

    Raises:
        WeightsError: its own list of categories is damaged.
    """
    recipe = deduced_recipe(file)
    known = [head_class for head_class in head_classes(file) or [] if head_class is not None]
    head = file.weights.get(WEIGHT)
    depth, dilation = recipe.get("MODEL.RESNETS.DEPTH"), recipe.get("MODEL.RESNETS.RES5_DILATION")
    convention, iteration = file.convention, file.rest.get("iteration")
    return Description(
        path=file.path,
        origin=file.origin,
        kind=_kind(file),
        backbone=None if depth is None else f"ResNet-{depth}",
        dilated=None if dilation is None else dilation == 2,
        hidden_dim=recipe.get("MODEL.DETR.HIDDEN_DIM"),
        heads=recipe.get("MODEL.DETR.NHEADS"),
        encoder_layers=recipe.get("MODEL.DETR.ENC_LAYERS"),
        decoder_layers=recipe.get("MODEL.DETR.DEC_LAYERS"),
        queries=recipe.get("MODEL.DETR.NUM_QUERIES"),
        outputs=None if head is None else len(head),
        things=[head_class.name for head_class in known if head_class.is_thing is True],
        stuff=[head_class.name for head_class in known if head_class.is_thing is False],
        classes=[head_class.name for head_class in known],
        format=None if convention is None else convention.format,
        mean=None if convention is None else list(convention.mean),
        std=None if convention is None else list(convention.std),
        tensors=len(file.weights),
        parameters=sum(value.numel() for value in file.weights.values()),
        iteration=iteration if isinstance(iteration, int) else None,
    )


def _kind(file: WeightsFile) -> str:
    if WEIGHT in file.weights:
        return "panoptic" if "mask_head.lay1.weight" in file.weights else "boxes"
    return "backbone" if any(name.startswith("detr.backbone.") for name in file.weights) else "unknown"
