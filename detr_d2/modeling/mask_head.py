"""DETR's panoptic mask head: attention maps of chosen queries, refined to masks at stride 4.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", section 4.2 and figure 8.
Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

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
        scores = torch.matmul(projected[:, :, None], _of_each_query(keys, batch_index)).squeeze(2)
        scores = scores.masked_fill(padding_mask.flatten(1)[batch_index, None], float("-inf"))
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
        """What does not depend on the query, computed once per picture.

        Convolutions are linear: what one makes of the picture's features is the same for every query, and only what it
        makes of the query's own maps (:meth:`forward`) is computed for each.

        Args:
            projected: (B, D, H, W).
            fpn: res4, res3, res2, each (B, C, H, W) of its own size.

        Returns:
            What the first convolution makes of the projected features, and the third, fourth and fifth of res4, res3
            and res2, biases included.
        """
        dim = projected.shape[1]
        parts = [F.conv2d(projected, self.lay1.weight[:, :dim], self.lay1.bias, padding=1)]
        steps = ((self.adapter1, self.lay3), (self.adapter2, self.lay4), (self.adapter3, self.lay5))
        return parts + [layer(adapter(feature)) for (adapter, layer), feature in zip(steps, fpn, strict=True)]

    def forward(self, attention: Tensor, shared: Sequence[Tensor], batch_index: Tensor) -> Tensor:
        """
        Args:
            attention: (K, N, H, W) maps of :class:`AttentionMaps`.
            shared: of :meth:`shared_features`.
            batch_index: (K,) int64, the picture each map belongs to.

        Returns:
            (K, H2, W2) mask logits at the size of res2.
        """
        first, *finer = [_of_each_query(part, batch_index) for part in shared]
        dim = self.lay1.weight.shape[1] - attention.shape[1]
        x = first + F.conv2d(attention, self.lay1.weight[:, dim:], padding=1)
        x = F.relu_(self.gn1(x))
        x = F.relu_(self.gn2(self.lay2(x)))
        later = ((self.lay3, self.gn3), (self.lay4, self.gn4), (self.lay5, self.gn5))
        for part, (convolution, norm) in zip(finer, later, strict=True):
            x = part + upsampled_convolution(x, convolution.weight, part.shape[-2:])
            x = F.relu_(norm(x))
        return self.out_lay(x)[:, 0]


class _GroupNorm(nn.GroupNorm):
    """Group norm that takes a group of one value, too, which torch's refuses: one pixel in a small network."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def predict_masks(
    bbox_attention: AttentionMaps,
    mask_head: MaskHead,
    outputs: dict,
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
        batch_index: (K,) int64, the picture of each chosen query.
        query_index: (K,) int64, its number within the picture.
        max_bytes: compute so many queries at once that their widest layers stay below this; None: all of a picture.
        recompute: keep nothing but the masks for the backward pass, which computes them again chunk by chunk.

    Returns:
        (K, H/4, W/4) logits, in the order given.
    """

    def some_masks(queries: Tensor, keys: Tensor, padding_mask: Tensor, *shared: Tensor) -> Tensor:
        first_picture = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
        maps = bbox_attention(queries, keys, padding_mask, first_picture)
        return mask_head(maps, shared, first_picture)

    masks = []
    # One picture at a time: its shared part is added to all its queries without a copy for each.
    pictures = batch_index.unique().tolist()
    for picture, inputs in zip(pictures, _inputs_of(outputs, pictures), strict=True):
        shared = mask_head.shared_features(inputs["projected"], [inputs[name] for name in ("res4", "res3", "res2")])
        context = (bbox_attention.project_memory(inputs["memory"]), inputs["padding_mask"], *shared)
        queries = outputs["hidden_states"][-1][picture, query_index[batch_index == picture]]
        for chunk in queries.split(len(queries) if max_bytes is None else _queries_at_once(shared[-1], max_bytes)):
            if recompute and torch.is_grad_enabled():
                masks.append(checkpoint(some_masks, chunk, *context, use_reentrant=False))
            else:
                masks.append(some_masks(chunk, *context))
    if not masks:
        return outputs["memory"].new_zeros(0, *outputs["features"]["res2"].shape[-2:])
    together = masks[0] if len(masks) == 1 else torch.cat(masks)
    return together if len(pictures) == 1 else together[batch_index.argsort(stable=True).argsort()]


def upsampled_convolution(x: Tensor, weight: Tensor, size: Sequence[int]) -> Tensor:
    """A 3x3 convolution, without bias, of ``x`` upsampled to ``size`` by nearest neighbour.

    Where that doubles the size, each pixel of ``x`` stands for 2x2 equal ones, so taps that meet the same pixel are
    added up beforehand: one transposed convolution with 4 taps for each result instead of 9, and no upsampled copy.

    Args:
        x: (K, C, h, w).
        weight: (C', C, 3, 3).
        size: height and width of the result; doubling includes 2h - 1 and 2w - 1, what strides make of odd sizes.

    Returns:
        (K, C', height, width).
    """
    height, width = size
    # A graph that is recorded must not depend on the sizes it was recorded with.
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if recorded or (height + 1) // 2 != x.shape[2] or (width + 1) // 2 != x.shape[3]:
        return F.conv2d(F.interpolate(x, size=size, mode="nearest"), weight, padding=1)
    taps = F.pad(weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
    taps = taps[:, :, 1:] + taps[:, :, :-1]
    out = F.conv_transpose2d(x, taps[..., 1:] + taps[..., :-1], stride=2, padding=1)
    if width % 2:  # the result ends one column early, and what lies beyond counts as 0
        beyond = x[..., -1:].repeat_interleave(2, dim=2)
        out[..., -2:-1] -= F.conv2d(beyond, weight[..., 2:], padding=(1, 0))
    if height % 2:
        beyond = x[:, :, -1:].repeat_interleave(2, dim=3)[..., :width]
        out[:, :, -2:-1] -= F.pad(F.conv2d(beyond, weight[:, :, 2:], padding=(0, 1)), (0, width % 2))
    return out[..., :height, :width]


def _of_each_query(part: Tensor, batch_index: Tensor) -> Tensor:
    """(B, ...) of pictures to (K, ...) of queries; of one picture (1, ...), which goes with all without a copy."""
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return part[batch_index] if recorded or len(part) > 1 else part


def _inputs_of(outputs: dict, pictures: list[int]) -> Iterator[dict[str, Tensor]]:
    """What the mask head takes from ``Detr.forward``, for one picture (1, ...) after the other."""
    tensors = {name: outputs[name] for name in ("projected", "memory", "padding_mask")} | outputs["features"]
    each = {name: tensor.split(1) for name, tensor in tensors.items()}
    return ({name: parts[picture] for name, parts in each.items()} for picture in pictures)


def _queries_at_once(largest: Tensor, max_bytes: int) -> int:
    """How many queries' widest layer, held about three times while it is computed, fits into ``max_bytes``."""
    return max(1, max_bytes // (3 * largest[0].numel() * largest.element_size()))
