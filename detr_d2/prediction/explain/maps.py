"""Maps over the memory's places, and what share of one lies inside an object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling.postprocess import Size, Sizes

from .recording import recorded_attention


class HeatShare(NamedTuple):
    """How much of a heat map lies inside a mask, beside what no map and the best map would have there.

    Args:
        inside: 0 to 1, the map's share inside the mask.
        chance: the mask's share of the image, which is what a map has there that looks everywhere alike.
        ceiling: what a map of these few places could have there at most; less than 1 for an object that fills none.
    """

    inside: float
    chance: float
    ceiling: float

    @property
    def ratio(self) -> float | None:
        """How many times the chance level; None for an empty mask."""
        return self.inside / self.chance if self.chance else None


def heat_share(heat: Tensor, mask: Tensor) -> HeatShare:
    """Compares a map of few places with a mask of many pixels; a place's heat is spread evenly over its pixels.

    Args:
        heat: (h, w), 0 or more.
        mask: (H, W) bool.
    """
    parts = F.adaptive_avg_pool2d(mask[None, None].float(), (heat.shape[0], heat.shape[1]))[0, 0]
    total = float(heat.sum())
    inside = float((heat * parts).sum()) / total if total > 0 else 0.0
    return HeatShare(inside, float(parts.mean()), float(parts.max()))


def over_image(heat: Tensor, sizes: Sizes) -> Tensor:
    """A map (h, w) of the padded image's places to one (H, W) of the image's pixels, smoothly."""
    large = F.interpolate(heat[None, None].float(), size=sizes.padded, mode="bilinear", align_corners=False)
    return large[0, 0, : sizes.image[0], : sizes.image[1]]


def relative(heat: Tensor | np.ndarray) -> np.ndarray:
    """Values as parts of the largest one, 0 to 1; all 0 where there is none."""
    values = np.asarray(heat.detach().cpu() if isinstance(heat, Tensor) else heat, dtype=np.float32)
    largest = float(values.max()) if values.size else 0.0
    return values / largest if largest > 0 else np.zeros_like(values)


def principal_colors(features: Tensor) -> np.ndarray:
    """The three directions in which features differ most, as red, green and blue: like colours, like features.

    Args:
        features: (C, h, w).

    Returns:
        (h, w, 3) float32 in 0..1.
    """
    points = features.detach().float().flatten(1).T
    points = points - points.mean(0)
    rank = min(3, *points.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the search for directions starts at random ones
        _, _, directions = torch.pca_lowrank(points, q=rank, center=False)
    directions = directions * directions.sum(0).sign()  # a direction has no sign of its own
    shown = np.full((len(points), 3), 0.5, np.float32)
    values = (points @ directions).cpu().numpy()
    low, high = np.percentile(values, [2, 98], axis=0)
    shown[:, :rank] = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1)
    return shown.reshape(*features.shape[-2:], 3)


@torch.no_grad()
def attention_of(
    model: DetrPanoptic, outputs: dict[str, Any], query: int | Sequence[int], sizes: Sizes, image: int = 0
) -> np.ndarray:
    """Where the last decoder layer looks for a query: the mean of its heads, over the image.

    Backbone and encoder don't run again, only the decoder, over the memory that is there.

    Args:
        model: in evaluation mode.
        outputs: of ``Detr.forward``, such as :meth:`DetrPanoptic.detect` returns.
        query: 0 to Q - 1, or several whose maps are added up, as for stuff that several queries make.
        sizes: of the image, from the same call.
        image: index within the batch.

    Returns:
        (H, W) float32 of ``sizes.output``, the largest value being 1.
    """
    queries = [query] if isinstance(query, int) else list(query)
    transformer, memory = model.detr.transformer, outputs["memory"][image : image + 1]
    padding_mask = outputs["padding_mask"][image : image + 1]
    position = model.detr.position_embedding(padding_mask).flatten(2).transpose(1, 2).to(memory.dtype)
    learned = model.detr.query_embed.weight[None].to(memory.dtype)
    with recorded_attention(transformer.decoder) as weights:
        tokens = memory.flatten(2).transpose(1, 2)
        transformer.decoder(torch.zeros_like(learned), tokens, position, learned, padding_mask.flatten(1))
    last: Any = transformer.decoder.layers[-1]
    found = weights[last.multihead_attn][0, :, queries].mean(0).sum(0)
    smooth = over_image(found.view(memory.shape[-2:]), sizes)
    return relative(F.interpolate(smooth[None, None], size=sizes.output, mode="bilinear", align_corners=False)[0, 0])


def token_at(point: tuple[float, float], grid: Size, sizes: Sizes) -> int:
    """The token whose place holds a point x, y of the image at network size."""
    row = min(int(point[1] * grid[0] / sizes.padded[0]), grid[0] - 1)
    column = min(int(point[0] * grid[1] / sizes.padded[1]), grid[1] - 1)
    return row * grid[1] + column
