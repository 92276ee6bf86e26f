"""Maps over the memory's places: what a query's class depends on, where it looks, and what lies inside an object.

Source of the relevance, gradient-weighted attention through all layers: Chefer, Gur and Wolf 2021, "Generic
Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers", equations 5 to 10 and
section 3.2; of equation 10's product only one row is computed, so that no matrix of tokens by tokens is multiplied by
another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling.postprocess import Size, Sizes

from .recording import Recording, recorded_attention


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


def relevance(recording: Recording, image: int, query: int, category: int) -> Tensor:
    """How much each place of the memory adds to the class logit of a query.

    Args:
        recording: of the forward pass; it may be asked again, for other queries.
        image: index within the batch.
        query: 0 to Q - 1.
        category: contiguous class id, whose logit is explained.

    Returns:
        (h, w) float32, 0 or more, without a unit: only the values of one map can be compared. 0 on padding.
    """
    logit = recording.outputs["pred_logits"][image, query, category]
    layers = [*recording.encoder, *recording.decoder_self, *recording.decoder_cross]
    gradients = torch.autograd.grad(logit, layers, retain_graph=True)
    weighted = [
        head_mean(layer.detach()[image], gradient[image]) for layer, gradient in zip(layers, gradients, strict=True)
    ]
    encoder, decoder = weighted[: len(recording.encoder)], weighted[len(recording.encoder) :]
    own, cross = decoder[: len(recording.decoder_self)], decoder[len(recording.decoder_self) :]
    return through_encoder(over_memory(own, cross)[query], encoder).view(recording.grid)


def head_mean(attention: Tensor, gradient: Tensor) -> Tensor:
    """(N, T, S) attention and its gradient to (T, S): heads count as much as the logit grows with them (equation 5)."""
    return (attention * gradient).clamp(min=0).mean(0)


def over_memory(own: Sequence[Tensor], cross: Sequence[Tensor]) -> Tensor:
    """Relevance (Q, T) of memory tokens for queries, as far as the decoder goes.

    Args:
        own: for each decoder layer (Q, Q), see :func:`head_mean`.
        cross: for each decoder layer (Q, T).
    """
    added = torch.zeros_like(own[0])  # to the identity, apart from which it would be lost in rounding
    memory = torch.zeros_like(cross[0])
    for among_queries, among_memory in zip(own, cross, strict=True):
        added = added + among_queries + among_queries @ added
        memory = memory + among_queries @ memory
        memory = memory + among_memory + _rows_to_one(added).T @ among_memory
    return memory


def through_encoder(row: Tensor, encoder: Sequence[Tensor]) -> Tensor:
    """A row (T,) of relevance over the memory to one over the tokens that went into the encoder.

    It is ``row @ normalised(R)`` for the encoder's relevance ``R = (1 + A_L) ... (1 + A_1)``, without making R.

    Args:
        row: (T,).
        encoder: for each layer A (T, T), see :func:`head_mean`.
    """
    sums, added = torch.zeros_like(row), torch.zeros_like(row)
    for layer in encoder:
        sums = sums + layer @ (1 + sums)
    scaled = row * _inverse(sums)
    for layer in reversed(encoder):
        added = added + (scaled + added) @ layer
    return row + added


def _rows_to_one(added: Tensor) -> Tensor:
    """What self-attention added, each row made to sum to 1 where it isn't 0 (equations 8 and 9)."""
    return added * _inverse(added.sum(1, keepdim=True))


def _inverse(sums: Tensor) -> Tensor:
    """1 / x, and 0 for 0."""
    return torch.where(sums > 0, 1 / sums.clamp(min=torch.finfo(sums.dtype).tiny), torch.zeros_like(sums))
