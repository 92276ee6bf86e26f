"""DETR: a backbone, a transformer, and a set of predictions.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", section 3.2 and figure 2.
Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .position_encoding import PositionEmbeddingSine
from .transformer import Transformer


class Detr(nn.Module):
    """Predicts a set of classes and boxes, one for each object query.

    Args:
        backbone: gives a dict of feature maps (B, C, H, W) for images (B, 3, H, W).
        in_channels: channels of the backbone's map ``feature``.
        transformer: encoder and decoder of width D.
        num_classes: K; the class head has one more output, no-object, which is the last.
        num_queries: Q.
        aux_loss: also give the predictions of every decoder layer but the last.
        feature: which of the backbone's maps the transformer reads: "res5", or "res4" of half its stride.
    """

    def __init__(
        self,
        backbone: nn.Module,
        in_channels: int,
        transformer: Transformer,
        num_classes: int,
        num_queries: int = 100,
        aux_loss: bool = True,
        feature: str = "res5",
    ) -> None:
        super().__init__()
        hidden_dim = transformer.d_model
        self.backbone = backbone
        self.transformer = transformer
        self.position_embedding = PositionEmbeddingSine(hidden_dim // 2)
        self.input_proj = nn.Conv2d(in_channels, hidden_dim, kernel_size=1)
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.bbox_embed = MLP(hidden_dim, hidden_dim, output_dim=4, num_layers=3)
        self.aux_loss = aux_loss
        self.feature = feature

    def forward(self, images: Tensor, padding_mask: Tensor) -> dict[str, Any]:
        """
        Args:
            images: (B, 3, H, W), normalised, padded on the right and at the bottom.
            padding_mask: (B, H, W) bool, True on padding.

        Returns:
            pred_logits (B, Q, K+1), pred_boxes (B, Q, 4) as cx, cy, w, h in [0, 1] of the unpadded image, and
            aux_outputs, a list of such pairs for the earlier decoder layers; and what the mask head goes on from:
            hidden_states (L, B, Q, D), memory and projected (B, D, H/32, W/32), features, padding_mask (B, H/32, W/32);
            1/16 of the sides where ``feature`` is "res4".
        """
        features = self.backbone(images)
        projected = self.input_proj(features[self.feature])
        padding_mask = _shrink_mask(padding_mask, projected)
        position = self.position_embedding(padding_mask)
        hidden_states, memory = self.transformer(projected, padding_mask, self.query_embed.weight, position)
        return {
            **self.predictions(hidden_states),
            "hidden_states": hidden_states,
            "memory": memory,
            "projected": projected,
            "features": features,
            "padding_mask": padding_mask,
        }

    def predictions(self, hidden_states: Tensor) -> dict[str, Any]:
        """Hidden states (L, B, Q, D) to pred_logits, pred_boxes and aux_outputs; see :meth:`forward`."""
        pred_logits = self.class_embed(hidden_states)
        pred_boxes = self.bbox_embed(hidden_states).sigmoid()
        earlier = zip(pred_logits[:-1], pred_boxes[:-1], strict=True) if self.aux_loss else []
        return {
            "pred_logits": pred_logits[-1],
            "pred_boxes": pred_boxes[-1],
            "aux_outputs": [{"pred_logits": logits, "pred_boxes": boxes} for logits, boxes in earlier],
        }


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        input_dim: channels in.
        hidden_dim: channels between.
        output_dim: channels out.
        num_layers: how many linear layers.
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        widths = [input_dim] + [hidden_dim] * (num_layers - 1) + [output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) to (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        last: Tensor = self.layers[-1](x)
        return last


def _shrink_mask(padding_mask: Tensor, like: Tensor) -> Tensor:
    """(B, H, W) bool at the image's size to the size of the feature map ``like``."""
    shrunk = F.interpolate(padding_mask[:, None].float(), size=like.shape[-2:], mode="nearest")
    return shrunk[:, 0].to(torch.bool)
