"""A batch of a training as plain data, as a file holds it, and as the model takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from detr_d2.checkpoint.reading import tensor_problem
from detr_d2.structures import BatchedInputs

from detectron2.structures import BitMasks, Boxes, Instances

#: Pixels of an image, at most; a training's are a few million.
_MOST_PIXELS = 2**26


def plain_batch(batch: BatchedInputs) -> list[dict[str, Any]]:
    """The inputs as plain data, without what the model doesn't look at."""
    return [_plain(item) for item in batch]


def batch_of(content: Sequence[Mapping[str, Any]], num_classes: int, with_masks: bool) -> BatchedInputs:
    """The inputs that :func:`plain_batch` gave, each of them looked at, as the file may hold anything.

    Args:
        content: as it is in the file.
        num_classes: of the model.
        with_masks: the model needs "gt_masks".

    Raises:
        ValueError: naming what is wrong; other built-in errors where a value is of another type.
    """
    if not isinstance(content, list) or not content:
        raise ValueError("its batch has no images")
    return [_item(plain, num_classes, with_masks) for plain in content]


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: value for key, value in item.items() if isinstance(value, str | int | float | Tensor)}
    if "instances" in item:
        gt = item["instances"].to("cpu")
        fields = {"image_size": list(gt.image_size), "gt_classes": gt.gt_classes, "gt_boxes": gt.gt_boxes.tensor}
        kept["instances"] = fields | ({"gt_masks": gt.gt_masks.tensor} if gt.has("gt_masks") else {})
    return kept


def _item(plain: Mapping[str, Any], num_classes: int, with_masks: bool) -> dict[str, Any]:
    item, fields = dict(plain), plain["instances"]
    size = _size_of(_values("image", item["image"], 3))
    if tuple(fields["image_size"]) != size:
        raise ValueError(f"an image of {size} has instances of {fields['image_size']}")
    for name in ("height", "width"):
        if name in item and not (type(item[name]) is int and 0 < item[name] <= _MOST_PIXELS):
            raise ValueError(f"the {name} of an image is {item[name]!r}")
    gt = Instances(size)
    gt.gt_classes = _values("gt_classes", fields["gt_classes"], 1)
    gt.gt_boxes = Boxes(_values("gt_boxes", fields["gt_boxes"], 2))
    count, known = len(gt.gt_classes), set(range(num_classes))
    if gt.gt_classes.dtype != torch.int64 or not known.issuperset(gt.gt_classes.tolist()):
        raise ValueError(f"gt_classes aren't within 0 and {num_classes - 1}")
    if tuple(gt.gt_boxes.tensor.shape) != (count, 4):
        raise ValueError("gt_boxes aren't one for each class")
    if with_masks:
        masks = _values("gt_masks", fields["gt_masks"], 3)
        if tuple(masks.shape) != (count, *size) or masks.dtype != torch.bool:
            raise ValueError("gt_masks aren't one for each class, of the image's size")
        gt.gt_masks = BitMasks(masks)
    return item | {"instances": gt}


def _size_of(image: Tensor) -> tuple[int, int]:
    channels, height, width = image.shape
    if channels != 3 or not 0 < height * width <= _MOST_PIXELS:
        raise ValueError(f"an image is of shape {tuple(image.shape)}")
    return height, width


def _values(name: str, value: Tensor, dimensions: int) -> Tensor:
    """The tensor, if it is one of so many dimensions that holds a real number at each of its places."""
    if not isinstance(value, Tensor) or value.dim() != dimensions:
        raise ValueError(f"{name} is no tensor of {dimensions} dimensions")
    if wrong := tensor_problem(value):
        raise ValueError(f"{name} {wrong}")
    return value
