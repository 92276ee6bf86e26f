"""DETR's panoptic head: attention maps of chosen queries, refined to masks at stride 4.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", section 4.2 and figure 8.
Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


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
        """(B, D, H, W) memory to its keys (B, N, C, H * W), which all queries of an image share."""
        keys = self.k_linear(memory.flatten(2).transpose(1, 2)).transpose(1, 2)
        return keys.unflatten(1, (self.num_heads, -1))

    def forward(self, queries: Tensor, keys: Tensor, padding_mask: Tensor) -> Tensor:
        """
        Args:
            queries: (K, D), only those that need a map.
            keys: of :meth:`project_memory`, (1, N, C, H * W) of the image that all queries are of, or (K, ...) of each
                query's image.
            padding_mask: (1, H, W) or (K, H, W) bool, True on padding.

        Returns:
            (K, N, H, W); a query's map sums to 1 over heads and places together, and is 0 on padding.
        """
        projected = self.q_linear(queries).unflatten(1, (self.num_heads, -1))
        projected = projected * projected.shape[-1] ** -0.5
        scores = torch.matmul(projected[:, :, None], keys).squeeze(2)
        scores = scores.masked_fill(padding_mask.flatten(1)[:, None], float("-inf"))
        return scores.flatten(1).softmax(-1).view(*scores.shape[:2], *padding_mask.shape[1:])


class MaskHead(nn.Module):
    """Five convolutions with group norm; finer features of the backbone join on the way up (an FPN).

    Args:
        dim: channels of the projected features and the attention heads together (D + N).
        fpn_dims: channels of res4, res3 and res2.
        context_dim: D; the widths of the later layers are D/2, D/4, D/8 and D/16.
        attention_gain: what the first layer's initial weights over the attention maps are multiplied by. A map sums to
            1 over heads and places together, so that each of its values is tiny beside the projected features.

    Raises:
        ValueError: ``context_dim`` isn't a multiple of 16.
    """

    def __init__(self, dim: int, fpn_dims: Sequence[int], context_dim: int, attention_gain: float = 1.0) -> None:
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
        with torch.no_grad():
            self.lay1.weight[:, context_dim:] *= attention_gain

    def _layer(self, width_in: int, width_out: int) -> tuple[nn.Conv2d, nn.GroupNorm]:
        # 8 groups at the published widths; fewer where a small network's width isn't a multiple of 8.
        return nn.Conv2d(width_in, width_out, 3, padding=1), _GroupNorm(math.gcd(8, width_out), width_out)

    def shared_features(self, projected: Tensor, fpn: Sequence[Tensor]) -> list[Tensor]:
        """What does not depend on the query, computed once per image.

        The first convolution is linear: what it makes of the image's features is the same for every query, and only
        what it makes of the query's own maps is left to :meth:`forward`.

        Args:
            projected: (B, D, H, W).
            fpn: res4, res3, res2, each (B, C, H, W) of its own size.

        Returns:
            What the first convolution makes of the projected features, bias included; and the adapted res4, res3, res2.
        """
        first = F.conv2d(projected, self.lay1.weight[:, : projected.shape[1]], self.lay1.bias, padding=1)
        res4, res3, res2 = fpn
        return [first, self.adapter1(res4), self.adapter2(res3), self.adapter3(res2)]

    def forward(self, attention: Tensor, shared: Sequence[Tensor]) -> Tensor:
        """
        Args:
            attention: (K, N, H, W) maps of :class:`AttentionMaps`.
            shared: of :meth:`shared_features`, (1, ...) of the image that all maps are of, or (K, ...).

        Returns:
            (K, H2, W2) mask logits at the size of res2.
        """
        first, res4, res3, res2 = shared
        x = first + self.convolve_maps(attention)
        x = F.relu(self.gn1(x))
        x = F.relu(self.gn2(self.lay2(x)))
        x = F.relu(self.gn3(self.lay3(res4 + _upsample(x, res4))))
        x = F.relu(self.gn4(self.lay4(res3 + _upsample(x, res3))))
        x = F.relu(self.gn5(self.lay5(res2 + _upsample(x, res2))))
        return self.out_lay(x)[:, 0]

    def convolve_maps(self, attention: Tensor) -> Tensor:
        """The first convolution's part over the attention maps (K, N, H, W), without bias: (K, D + N, H, W)."""
        return F.conv2d(attention, self.lay1.weight[:, -attention.shape[1] :], padding=1)


class _GroupNorm(nn.GroupNorm):
    """Group norm that takes a group of one value, too, which torch's refuses: one pixel in a small network."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


def predict_masks(
    bbox_attention: AttentionMaps,
    mask_head: MaskHead,
    outputs: dict[str, Any],
    batch_index: Tensor,
    query_index: Tensor,
    max_bytes: int | None = None,
    recompute: bool = False,
) -> Tensor:
    """Mask logits of the chosen queries, and of no other: this is where the time and the memory go.

    Args:
        bbox_attention: the attention maps' module.
        mask_head: the convolutions' module.
        outputs: what ``Detr.forward`` returned.
        batch_index: (K,) int64, the image of each chosen query.
        query_index: (K,) int64, its number within the image.
        max_bytes: compute so many queries at once that their widest layers stay below this; None: all of an image.
        recompute: keep nothing but the masks for the backward pass, which computes them again chunk by chunk.

    Returns:
        (K, H/4, W/4) logits, in the order given. Without any, they have gradients of 0 for every parameter of the head:
        where several processes train, the others wait for those.
    """

    def some_masks(queries: Tensor, keys: Tensor, padding_mask: Tensor, *shared: Tensor) -> Tensor:
        return mask_head(bbox_attention(queries, keys, padding_mask), shared)

    masks = []
    # One image at a time: what its queries share goes with all of them without a copy for each.
    images = batch_index.unique().tolist()
    for image, own in zip(images, _outputs_of(outputs, images), strict=True):
        shared = shared_inputs(bbox_attention, mask_head, own)
        queries = outputs["hidden_states"][-1][image, query_index[batch_index == image]]
        for chunk in queries.split(len(queries) if max_bytes is None else _queries_at_once(shared[-1], max_bytes)):
            masks.append(_call(some_masks, recompute, chunk, *shared))
    if not masks:
        none = outputs["memory"].new_zeros(0, *outputs["features"]["res2"].shape[-2:])
        parameters = [*bbox_attention.parameters(), *mask_head.parameters()] if torch.is_grad_enabled() else []
        return none + sum(0 * parameter.sum() for parameter in parameters)
    together = masks[0] if len(masks) == 1 else torch.cat(masks)
    return together if len(images) == 1 else together[batch_index.argsort(stable=True).argsort()]


def predict_masks_at_once(
    bbox_attention: AttentionMaps,
    mask_head: MaskHead,
    outputs: dict[str, Any],
    batch_index: Tensor,
    query_index: Tensor,
) -> Tensor:
    """:func:`predict_masks` without a loop over images or chunks, so that a graph of it can be recorded.

    It has a copy of what an image's queries share for each of them, and no bound on its memory.
    """
    keys, padding_mask, *shared = (part[batch_index] for part in shared_inputs(bbox_attention, mask_head, outputs))
    queries = outputs["hidden_states"][-1][batch_index, query_index]
    masks: Tensor = mask_head(bbox_attention(queries, keys, padding_mask), shared)
    return masks


def shared_inputs(bbox_attention: AttentionMaps, mask_head: MaskHead, outputs: dict[str, Any]) -> tuple[Tensor, ...]:
    """What all queries of an image share, (B, ...) each: keys, padding mask, and the parts of the mask head."""
    fpn = [outputs["features"][name] for name in ("res4", "res3", "res2")]
    keys = bbox_attention.project_memory(outputs["memory"])
    return keys, outputs["padding_mask"], *mask_head.shared_features(outputs["projected"], fpn)


def _outputs_of(outputs: dict[str, Any], images: list[int]) -> Iterator[dict[str, Any]]:
    """What the mask head takes from ``Detr.forward``, for one image (1, ...) after the other."""
    names = ("projected", "memory", "padding_mask")
    each = {name: outputs[name].split(1) for name in names}
    features = {name: feature.split(1) for name, feature in outputs["features"].items()}
    for image in images:
        own = {name: parts[image] for name, parts in each.items()}
        yield own | {"features": {name: parts[image] for name, parts in features.items()}}


def _call(function: Callable[..., Tensor], recompute: bool, *arguments: Tensor) -> Tensor:
    if recompute and torch.is_grad_enabled():
        again: Tensor = checkpoint(function, *arguments, use_reentrant=False)
        return again
    return function(*arguments)


def _queries_at_once(largest: Tensor, max_bytes: int) -> int:
    """How many queries' widest layer, held about three times while it is computed, fits into ``max_bytes``."""
    return max(1, max_bytes // (3 * largest[0].numel() * largest.element_size()))
