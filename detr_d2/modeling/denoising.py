"""Denoising: in training, ground truth with noise is given to the decoder as further queries, to be put right.

What answers for what is known from the start, so that boxes and classes learn without the matching, which changes from
step to step while a training is young. At inference nothing of it is there.

Source: Li et al. 2022, "DN-DETR: Accelerate DETR Training by Introducing Query DeNoising".
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .detr import MLP, Detr
from .matcher import Matching, Target

_TEMPERATURE = 10000.0


class Denoising(nn.Module):
    """Queries of noised ground truth, and what the decoder makes of them.

    Each copy of an image's ground truth is a row of its own in the decoder's batch, where its queries see each other
    and the image, and neither the learned queries nor another copy: no attention mask is needed. The places that are
    left over in the row of an image with fewer segments are boxes anywhere, which should say no-object.

    Args:
        d_model: channels D of the decoder; a multiple of 4.
        num_classes: K, without no-object.
        groups: noised copies of each image's ground truth, at least 1.
        box_noise: a centre moves by up to this part of half the box's width and height, and both of these change by up
            to this part of themselves; 0 to 1.
        label_noise: the part of the classes that is replaced by any class; 0 to 1.
    """

    def __init__(
        self, d_model: int, num_classes: int, groups: int = 3, box_noise: float = 0.4, label_noise: float = 0.2
    ) -> None:
        super().__init__()
        self.num_classes, self.groups = num_classes, groups
        self.box_noise, self.label_noise = box_noise, label_noise
        self.label_embed = nn.Embedding(num_classes, d_model)
        self.box_embed = MLP(2 * d_model, d_model, d_model, num_layers=2)

    def forward(
        self, detr: Detr, outputs: dict[str, Any], targets: list[Target]
    ) -> tuple[dict[str, Any], list[Target], Matching]:
        """
        Args:
            detr: the model.
            outputs: what it returned for the batch.
            targets: one for each of the batch's B images.

        Returns:
            pred_logits (G * B, M, K+1), pred_boxes (G * B, M, 4) and aux_outputs as of ``Detr.forward``, where M is the
            largest number of segments of an image; the targets G times; and which of the M answers for which target.
        """
        targets = targets * self.groups
        labels, boxes = self.queries(targets)
        content, query_position = self.label_embed(labels), self.box_embed(box_waves(boxes, self._width))
        memory, padding_mask = outputs["memory"], outputs["padding_mask"]
        position = detr.position_embedding(padding_mask).to(memory.dtype)
        memory, position = (each.flatten(2).transpose(1, 2).repeat(self.groups, 1, 1) for each in (memory, position))
        padding = padding_mask.flatten(1).repeat(self.groups, 1) if bool(padding_mask.any()) else None
        hidden_states = detr.transformer.decoder(content, memory, position, query_position, padding)
        indices = [(torch.arange(len(one["labels"])),) * 2 for one in targets]
        return detr.predictions(hidden_states), targets, indices

    @property
    def _width(self) -> int:
        return self.label_embed.embedding_dim

    @torch.no_grad()
    def queries(self, targets: list[Target]) -> tuple[Tensor, Tensor]:
        """Noised classes (N, M) int64 and boxes (N, M, 4) cx, cy, w, h in [0, 1] of N targets; at least one place."""
        device = self.label_embed.weight.device
        places = max(1, *(len(target["labels"]) for target in targets))
        labels = torch.randint(self.num_classes, (len(targets), places), device=device)
        boxes = torch.rand(len(targets), places, 4, device=device)
        for i, target in enumerate(targets):
            count = len(target["labels"])
            keeps = torch.rand(count, device=device) >= self.label_noise
            labels[i, :count] = torch.where(keeps, target["labels"], labels[i, :count])
            size = target["boxes"][:, 2:].repeat(1, 2) * target["boxes"].new_tensor([0.5, 0.5, 1.0, 1.0])
            noise = (2 * torch.rand(count, 4, device=device) - 1) * self.box_noise
            boxes[i, :count] = (target["boxes"] + noise * size).clamp(0, 1)
        return labels, boxes


def box_waves(boxes: Tensor, width: int) -> Tensor:
    """Boxes (..., 4) in [0, 1] as sines and cosines of many wavelengths, (..., 2 * width): of a number half a width."""
    steps = torch.arange(0, width // 2, 2, dtype=torch.float32, device=boxes.device)
    angle = boxes.float()[..., None] * (2 * math.pi) / _TEMPERATURE ** (2 * steps / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-3)
