"""DETR's transformer: positions are added to queries and keys in every attention, never to values.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", appendix A.3 and figure 10.
Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Transformer(nn.Module):
    """Encoder over the image, decoder over the object queries.

    Args:
        d_model: channels D of every token.
        nhead: attention heads; must divide ``d_model``.
        num_encoder_layers: may be 0.
        num_decoder_layers: L, at least 1.
        dim_feedforward: hidden channels of the feed-forward parts.
        dropout: rate in every attention and feed-forward part.
        normalize_before: layer norm before each part instead of after it.

    Raises:
        ValueError: ``nhead`` doesn't divide ``d_model``, or there is no decoder layer.
    """

    def __init__(
        self,
        d_model: int = 256,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        normalize_before: bool = False,
    ) -> None:
        super().__init__()
        if d_model % nhead:
            raise ValueError(f"d_model={d_model} isn't a multiple of nhead={nhead}; change one of them.")
        if num_decoder_layers < 1:
            raise ValueError(f"num_decoder_layers={num_decoder_layers}; DETR needs at least 1.")
        self.d_model, self.nhead = d_model, nhead
        layer_options = (d_model, nhead, dim_feedforward, dropout, normalize_before)
        self.encoder = TransformerEncoder(
            [TransformerEncoderLayer(*layer_options) for _ in range(num_encoder_layers)],
            nn.LayerNorm(d_model) if normalize_before else None,
        )
        self.decoder = TransformerDecoder(
            [TransformerDecoderLayer(*layer_options) for _ in range(num_decoder_layers)], nn.LayerNorm(d_model)
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, source: Tensor, padding_mask: Tensor, query_embed: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            source: (B, D, H, W) projected features.
            padding_mask: (B, H, W) bool, True on padding.
            query_embed: (Q, D) learned query embeddings.
            position: (B, D, H, W) position embeddings.

        Returns:
            hidden_states (L, B, Q, D), one per decoder layer, and the memory (B, D, H, W).
        """
        batch, _, height, width = source.shape
        tokens = source.permute(0, 2, 3, 1).flatten(1, 2)
        position = position.flatten(2).transpose(1, 2).to(tokens.dtype)
        # Without padding no mask is needed, and attention is faster without one; a compiled graph has no such choice.
        is_padded = torch.compiler.is_compiling() or bool(padding_mask.any())
        key_padding_mask = padding_mask.flatten(1) if is_padded else None
        memory = self.encoder(tokens, position, key_padding_mask)
        query_position = query_embed.unsqueeze(0).expand(batch, -1, -1)
        queries = torch.zeros_like(query_position)
        hidden_states = self.decoder(queries, memory, position, query_position, key_padding_mask)
        return hidden_states, memory.transpose(1, 2).reshape(batch, self.d_model, height, width)


class TransformerEncoder(nn.Module):
    """Encoder layers one after the other; a last norm only where the layers normalise before."""

    def __init__(self, layers: list[TransformerEncoderLayer], norm: nn.Module | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(self, tokens: Tensor, position: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """(B, N, D) tokens to the memory (B, N, D); ``key_padding_mask`` (B, N) is True on padding."""
        for layer in self.layers:
            tokens = layer(tokens, position, key_padding_mask)
        return tokens if self.norm is None else self.norm(tokens)


class TransformerDecoder(nn.Module):
    """Decoder layers one after the other; the same norm is applied to what each of them gives."""

    def __init__(self, layers: list[TransformerDecoderLayer], norm: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(
        self, queries: Tensor, memory: Tensor, position: Tensor, query_position: Tensor, key_padding_mask: Tensor | None
    ) -> Tensor:
        """(B, Q, D) queries to the hidden states (L, B, Q, D) of all layers."""
        hidden_states = []
        for layer in self.layers:
            queries = layer(queries, memory, position, query_position, key_padding_mask)
            hidden_states.append(self.norm(queries))
        return torch.stack(hidden_states)


class TransformerEncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each with a residual and a norm after (or before) it."""

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int, dropout: float, normalize_before: bool) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(d_model, nhead, dropout, batch_first=True)
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.normalize_before = normalize_before

    def forward(self, tokens: Tensor, position: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """(B, N, D) to (B, N, D); ``key_padding_mask`` (B, N) is True on padding."""
        if self.normalize_before:
            tokens = tokens + self._attend(self.norm1(tokens), position, key_padding_mask)
            return tokens + self._feed_forward(self.norm2(tokens))
        tokens = self.norm1(tokens + self._attend(tokens, position, key_padding_mask))
        return self.norm2(tokens + self._feed_forward(tokens))

    def _attend(self, tokens: Tensor, position: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        located = tokens + position
        attended, _ = self.self_attn(located, located, tokens, key_padding_mask=key_padding_mask, need_weights=False)
        return self.dropout(attended)

    def _feed_forward(self, tokens: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.linear1(tokens)))
        return self.dropout(self.linear2(hidden))


class TransformerDecoderLayer(nn.Module):
    """Self-attention of the queries, attention over the memory, then feed-forward."""

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int, dropout: float, normalize_before: bool) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(d_model, nhead, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(d_model, nhead, dropout, batch_first=True)
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.norm3 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.normalize_before = normalize_before

    def forward(
        self, queries: Tensor, memory: Tensor, position: Tensor, query_position: Tensor, key_padding_mask: Tensor | None
    ) -> Tensor:
        """(B, Q, D) to (B, Q, D); ``memory``, ``position`` (B, N, D); ``key_padding_mask`` (B, N), True on padding."""
        over_memory = (memory, position, query_position, key_padding_mask)
        if self.normalize_before:
            queries = queries + self._attend_queries(self.norm1(queries), query_position)
            queries = queries + self._attend_memory(self.norm2(queries), *over_memory)
            return queries + self._feed_forward(self.norm3(queries))
        queries = self.norm1(queries + self._attend_queries(queries, query_position))
        queries = self.norm2(queries + self._attend_memory(queries, *over_memory))
        return self.norm3(queries + self._feed_forward(queries))

    def _attend_queries(self, queries: Tensor, query_position: Tensor) -> Tensor:
        located = queries + query_position
        attended, _ = self.self_attn(located, located, queries, need_weights=False)
        return self.dropout(attended)

    def _attend_memory(
        self, queries: Tensor, memory: Tensor, position: Tensor, query_position: Tensor, key_padding_mask: Tensor | None
    ) -> Tensor:
        attended, _ = self.multihead_attn(
            *(queries + query_position, memory + position, memory),
            key_padding_mask=key_padding_mask,
            need_weights=False,
        )
        return self.dropout(attended)

    def _feed_forward(self, queries: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.linear1(queries)))
        return self.dropout(self.linear2(hidden))
