"""One training step in three implementations: images and targets in, updated weights out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detr_d2.modeling.box_ops import box_xyxy_to_cxcywh

from detectron2.structures import BitMasks, Boxes, Instances

from .models import MEAN, STD, Setting, build_huggingface, build_ours, build_reference


@dataclass(frozen=True)
class Step:
    """A model in training.

    Args:
        run: one step; returns its mask and dice losses.
    """

    model: nn.Module
    run: Callable[[], dict[str, float]]


def ours(
    setting: Setting, targets: int, frozen: bool, *overrides: str, accelerations: Iterable[str] | None = None
) -> Step:
    """This project's step, as its trainer does it."""
    keys = ("MODEL.DETR.FREEZE_DETECTOR", str(frozen), *overrides)
    model = build_ours(setting, *keys, accelerations=accelerations).train()
    boxes, labels, masks = draw_targets(setting, targets)
    gt = Instances((setting.height, setting.width), gt_classes=labels, gt_boxes=Boxes(boxes), gt_masks=BitMasks(masks))
    inputs = [{"image": image, "instances": gt} for image in setting.images()]
    return Step(model, _step(model, lambda: model(inputs), {"loss_mask": 1.0, "loss_dice": 1.0}, weighted=True))


def huggingface(setting: Setting, targets: int, frozen: bool) -> Step:
    """Hugging Face's model with labels, which computes the masks of all queries."""
    model = build_huggingface(setting, auxiliary_loss=not frozen).train()
    if frozen:
        model.detr.requires_grad_(False)
    boxes, labels, masks = draw_targets(setting, targets)
    gt = _on_device({"class_labels": labels, "boxes": _relative(boxes, setting), "masks": masks.float()}, setting)
    images = torch.stack(_normalized(setting))
    weights = {"loss_bbox": 5.0, "loss_giou": 2.0}
    return Step(model, _step(model, lambda: model(images, labels=[gt] * setting.batch).loss_dict, weights))


def reference(folder: Path, setting: Setting, targets: int, frozen: bool) -> Step:
    """facebookresearch/detr's model and criterion."""
    model, criterion, _ = build_reference(folder, setting, frozen)
    model.train()
    boxes, labels, masks = draw_targets(setting, targets)
    gt = _on_device({"labels": labels, "boxes": _relative(boxes, setting), "masks": masks}, setting)
    images = _normalized(setting)
    return Step(model, _step(model, lambda: criterion(model(images), [gt] * setting.batch), criterion.weight_dict))


def draw_targets(setting: Setting, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (N, 4) in pixels, classes (N,) and rectangular masks (N, H, W) bool, the same every time."""
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(count, 2, generator=generator) * 0.5
    size = torch.rand(count, 2, generator=generator) * 0.4 + 0.1
    boxes = torch.cat([corner, corner + size], 1) * torch.tensor([setting.width, setting.height] * 2)
    masks = torch.zeros(count, setting.height, setting.width, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    return boxes, torch.arange(count) % setting.classes, masks


def _normalized(setting: Setting) -> list[Tensor]:
    return [((image / 255 - MEAN) / STD).to(setting.device) for image in setting.images()]


def _on_device(tensors: dict[str, Tensor], setting: Setting) -> dict[str, Tensor]:
    return {name: tensor.to(setting.device) for name, tensor in tensors.items()}


def _relative(boxes: Tensor, setting: Setting) -> Tensor:
    return box_xyxy_to_cxcywh(boxes / torch.tensor([setting.width, setting.height] * 2))


def _step(
    model: nn.Module, compute: Callable[[], dict[str, Any]], weights: dict[str, float], weighted: bool = False
) -> Callable[[], dict[str, float]]:
    """Forward, backward, update. ``weights`` of losses default to 1; figures that have no gradient are left out."""
    optimizer = torch.optim.AdamW(_trained(model.parameters()), lr=1e-5, fused=True)

    def run() -> dict[str, float]:
        losses = compute()
        trained = {name: value for name, value in losses.items() if value.requires_grad}
        factors = {name: 1.0 if weighted else weights.get("_".join(name.split("_")[:2]), 1.0) for name in trained}
        torch.stack([value * factors[name] for name, value in trained.items()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        return {name: losses[name].item() for name in ("loss_mask", "loss_dice")}

    return run


def _trained(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]
