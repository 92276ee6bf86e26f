"""Which places of the image a query's class depends on, through all layers: gradient-weighted attention.

Source: Chefer, Gur and Wolf 2021, "Generic Attention-model Explainability for Interpreting Bi-Modal and
Encoder-Decoder Transformers", equations 5 to 10 and section 3.2; of equation 10's product only one row is computed,
so that no matrix of tokens by tokens is multiplied by another.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .recording import Recording


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
