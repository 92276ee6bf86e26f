"""DETR's panoptic mask head: attention maps of chosen queries, refined to masks at stride 4.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", section 4.2 and figure 8.
Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AttentionMaps(nn.Module):
    """How strongly each chosen query attends to each place of the encoder's memory.

    Args:
        query_dim: channels D of a query and of the memory.
        hidden_dim: channels of the projected queries and keys.
        num_heads: heads N; must divide ``hidden_dim``.

    Raises:
        ValueError: ``hidden_dim`` isn't a multiple of ``num_heads``.
    """

    def __init__(self, query_dim: int, hidden_dim: int, num_heads: int) -> None:
        super().__init__()
        if hidden_dim % num_heads:
            raise ValueError(f"hidden_dim={hidden_dim} isn't a multiple of num_heads={num_heads}; change one of them.")
        self.num_heads = num_heads
        self.q_linear = nn.Linear(query_dim, hidden_dim)
        self.k_linear = nn.Linear(query_dim, hidden_dim)
        for linear in (self.q_linear, self.k_linear):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def project_memory(self, memory: Tensor) -> Tensor:
        """(B, D, H, W) memory to its keys (B, N, C, H * W), which all queries of a picture share."""
        keys = self.k_linear(memory.flatten(2).transpose(1, 2)).transpose(1, 2)
        return keys.unflatten(1, (self.num_heads, -1))

    def forward(self, queries: Tensor, keys: Tensor, padding_mask: Tensor, batch_index: Tensor) -> Tensor:
        """
        Args:
            queries: (K, D), only those that need a map.
            keys: (B, N, C, H * W) of :meth:`project_memory`.
            padding_mask: (B, H, W) bool, True on padding.
            batch_index: (K,) int64, the picture each query belongs to.

        Returns:
            (K, N, H, W); a query's map sums to 1 over heads and places together, and is 0 on padding.
        """
        projected = self.q_linear(queries).unflatten(1, (self.num_heads, -1))
        projected = projected * projected.shape[-1] ** -0.5
        scores = torch.einsum("knc,kncp->knp", projected, keys[batch_index])
        scores = scores.masked_fill(padding_mask.flatten(1)[batch_index, None], float("-inf"))
        return scores.flatten(1).softmax(-1).view(*scores.shape[:2], *padding_mask.shape[1:])


class MaskHead(nn.Module):
    """Five convolutions with group norm; finer features of the backbone join on the way up (an FPN).

    Args:
        dim: channels of the projected features and the attention heads together (D + N).
        fpn_dims: channels of res4, res3 and res2.
        context_dim: D; the widths of the later layers are D/2, D/4, D/8 and D/16.

    Raises:
        ValueError: ``context_dim`` isn't a multiple of 16.
    """

    def __init__(self, dim: int, fpn_dims: Sequence[int], context_dim: int) -> None:
        super().__init__()
        if context_dim % 16:
            raise ValueError(f"context_dim={context_dim} isn't a multiple of 16, which the mask head's widths need.")
        widths = [dim, context_dim // 2, context_dim // 4, context_dim // 8, context_dim // 16]
        self.lay1, self.gn1 = self._layer(dim, widths[0])
        self.lay2, self.gn2 = self._layer(widths[0], widths[1])
        self.lay3, self.gn3 = self._layer(widths[1], widths[2])
        self.lay4, self.gn4 = self._layer(widths[2], widths[3])
        self.lay5, self.gn5 = self._layer(widths[3], widths[4])
        self.out_lay = nn.Conv2d(widths[4], 1, 3, padding=1)
        self.adapter1 = nn.Conv2d(fpn_dims[0], widths[1], 1)
        self.adapter2 = nn.Conv2d(fpn_dims[1], widths[2], 1)
        self.adapter3 = nn.Conv2d(fpn_dims[2], widths[3], 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def _layer(self, width_in: int, width_out: int) -> tuple[nn.Conv2d, nn.GroupNorm]:
        # 8 groups at the published widths; fewer where a small network's width isn't a multiple of 8.
        return nn.Conv2d(width_in, width_out, 3, padding=1), nn.GroupNorm(math.gcd(8, width_out), width_out)

    def shared_features(self, projected: Tensor, fpn: Sequence[Tensor]) -> list[Tensor]:
        """What does not depend on the query, computed once per picture.

        The first convolution is linear: its part over the projected features is the same for every query, and only its
        part over the attention maps (:meth:`forward`) is computed for each.

        Args:
            projected: (B, D, H, W).
            fpn: res4, res3, res2, each (B, C, H, W) of its own size.

        Returns:
            The shared part of the first convolution, and res4, res3, res2 at the widths they join at.
        """
        dim = projected.shape[1]
        first = F.conv2d(projected, self.lay1.weight[:, :dim], self.lay1.bias, padding=1)
        adapters = (self.adapter1, self.adapter2, self.adapter3)
        return [first] + [adapter(feature) for adapter, feature in zip(adapters, fpn, strict=True)]

    def forward(self, attention: Tensor, shared: Sequence[Tensor], batch_index: Tensor) -> Tensor:
        """
        Args:
            attention: (K, N, H, W) maps of :class:`AttentionMaps`.
            shared: of :meth:`shared_features`.
            batch_index: (K,) int64, the picture each map belongs to.

        Returns:
            (K, H2, W2) mask logits at the size of res2.
        """
        first, *finer = shared
        dim = self.lay1.weight.shape[1] - attention.shape[1]
        x = first[batch_index] + F.conv2d(attention, self.lay1.weight[:, dim:], padding=1)
        x = F.relu(self.gn1(x))
        x = F.relu(self.gn2(self.lay2(x)))
        later = ((self.lay3, self.gn3), (self.lay4, self.gn4), (self.lay5, self.gn5))
        for feature, (convolution, norm) in zip(finer, later, strict=True):
            x = feature[batch_index] + F.interpolate(x, size=feature.shape[-2:], mode="nearest")
            x = F.relu(norm(convolution(x)))
        return self.out_lay(x)[:, 0]


def predict_masks(
    bbox_attention: AttentionMaps,
    mask_head: MaskHead,
    outputs: dict,
    batch_index: Tensor,
    query_index: Tensor,
    max_bytes: int | None = None,
) -> Tensor:
    """Mask logits of the chosen queries, and of no other: this is where the time and the memory go.

    Args:
        bbox_attention: the attention maps' module.
        mask_head: the convolutions' module.
        outputs: what ``Detr.forward`` returned.
        batch_index: (K,) int64, the picture of each chosen query.
        query_index: (K,) int64, its number within the picture.
        max_bytes: compute so many queries at once that their widest layers stay below this; None: all at once.

    Returns:
        (K, H/4, W/4) logits, in the order given.
    """
    features = outputs["features"]
    shared = mask_head.shared_features(outputs["projected"], [features["res4"], features["res3"], features["res2"]])
    keys = bbox_attention.project_memory(outputs["memory"])
    queries = outputs["hidden_states"][-1][batch_index, query_index]
    if len(queries) == 0:
        return queries.new_zeros(0, *shared[-1].shape[-2:])
    chunk = len(queries) if max_bytes is None else _queries_at_once(shared, max_bytes)
    masks = [
        mask_head(bbox_attention(some_queries, keys, outputs["padding_mask"], some_batch), shared, some_batch)
        for some_queries, some_batch in zip(queries.split(chunk), batch_index.split(chunk), strict=True)
    ]
    return masks[0] if len(masks) == 1 else torch.cat(masks)


def _queries_at_once(shared: Sequence[Tensor], max_bytes: int) -> int:
    """How many queries' largest layer, held about three times while it is computed, fits into ``max_bytes``."""
    largest = max(feature[0].numel() * feature.element_size() for feature in shared)
    return max(1, max_bytes // (3 * largest))
