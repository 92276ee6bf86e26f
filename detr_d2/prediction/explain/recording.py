"""What a model's own forward pass computes on the way: every attention, each step of the mask head, and all shapes.

Hooks look on while ``DetrPanoptic.detect`` runs; there is no second model. An attention's weights are made of the
layer's own inputs and parameters, and what the layer hands on is what these weights give, so that gradients go
through what is shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling import Sizes
from detr_d2.structures import BatchedInputs

#: The mask head's norms, each followed by a ReLU, in order.
_MASK_STEPS = ("gn1", "gn2", "gn3", "gn4", "gn5")


@dataclass(frozen=True)
class Recording:
    """A forward pass of B images with every attention in it; gradients can be asked of its tensors.

    Args:
        outputs: what ``Detr.forward`` returned.
        sizes: of each image.
        encoder: for each encoder layer (B, N, T, T): how N heads spread each of T = h * w tokens' attention over all.
        decoder_self: for each decoder layer (B, N, Q, Q), of queries over queries.
        decoder_cross: for each decoder layer (B, N, Q, T), of queries over the memory.
    """

    outputs: dict[str, Any]
    sizes: list[Sizes]
    encoder: list[Tensor]
    decoder_self: list[Tensor]
    decoder_cross: list[Tensor]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns h, w of the memory's tokens."""
        height, width = self.outputs["memory"].shape[-2:]
        return int(height), int(width)


@dataclass(frozen=True)
class MaskRecording:
    """The mask head's way from queries to masks.

    Args:
        attention: (K, N, h, w) maps of ``AttentionMaps``, one for each head.
        steps: (K, C, h', w') after each of the five convolutions, norm and ReLU included.
        logits: (K, H/4, W/4).
    """

    attention: Tensor
    steps: list[Tensor]
    logits: Tensor


def record(model: DetrPanoptic, batched_inputs: BatchedInputs) -> Recording:
    """Runs the detector and keeps every attention.

    Args:
        model: in evaluation mode; the gradients of its parameters aren't touched.
        batched_inputs: as ``DetrPanoptic.forward`` takes them.

    Raises:
        ValueError: the model is in training mode, in which dropout would be shown.
    """
    if model.training:
        raise ValueError("record() needs a model in evaluation mode; call model.eval() first.")
    transformer = model.detr.transformer
    encoder: list[Any] = list(transformer.encoder.layers)
    decoder: list[Any] = list(transformer.decoder.layers)
    with _without_gradients(model), torch.enable_grad(), recorded_attention(model) as weights:
        entry = model.detr.input_proj.register_forward_hook(lambda module, args, output: output.requires_grad_(True))
        try:
            outputs, sizes = model.detect(batched_inputs)
        finally:
            entry.remove()
    return Recording(
        outputs,
        sizes,
        encoder=[weights[layer.self_attn] for layer in encoder],
        decoder_self=[weights[layer.self_attn] for layer in decoder],
        decoder_cross=[weights[layer.multihead_attn] for layer in decoder],
    )


@torch.no_grad()
def record_masks(model: DetrPanoptic, outputs: dict[str, Any], image: int, query_index: Tensor) -> MaskRecording:
    """Runs the mask head for some queries of an image and keeps what it computes on the way.

    Args:
        model: with a mask head.
        outputs: of ``Detr.forward``.
        image: index within the batch.
        query_index: (K,) int64, K at least 1.

    Raises:
        ValueError: the model has no mask head.
    """
    if model.bbox_attention is None or model.mask_head is None:
        raise ValueError("the model predicts boxes only: there is no mask head to be recorded.")
    parts: dict[str, list[Tensor]] = {name: [] for name in ("attention", *_MASK_STEPS)}

    def keep(name: str, change: Callable[[Tensor], Tensor]) -> Callable[..., None]:
        return lambda module, args, output: parts[name].append(change(output))

    hooks = [model.bbox_attention.register_forward_hook(keep("attention", torch.clone))]
    # The ReLU after a norm may be done in place, hence a result of its own.
    hooks += [getattr(model.mask_head, name).register_forward_hook(keep(name, F.relu)) for name in _MASK_STEPS]
    try:
        logits = model.query_masks(outputs, torch.full_like(query_index, image), query_index)
    finally:
        for hook in hooks:
            hook.remove()
    attention, *steps = (torch.cat(parts[name]) for name in ("attention", *_MASK_STEPS))
    return MaskRecording(attention.float(), [step.float() for step in steps], logits.float())


@contextmanager
def recorded_attention(model: nn.Module) -> Iterator[dict[nn.Module, Tensor]]:
    """Within it, the weights (B, N, T, S) of each ``nn.MultiheadAttention`` that runs, by module."""
    weights: dict[nn.Module, Tensor] = {}

    def look_on(module: Any, args: Any, options: dict[str, Any], output: Any) -> tuple[Tensor, None]:
        query, key, value = args
        weights[module], attended = attend(module, query, key, value, options.get("key_padding_mask"))
        return attended, None

    attentions = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    hooks = [module.register_forward_hook(look_on, with_kwargs=True) for module in attentions]
    try:
        yield weights
    finally:
        for hook in hooks:
            hook.remove()


def attend(
    attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """An attention's formula, written out.

    Args:
        attention: batch first, without dropout.
        query: (B, T, D).
        key, value: (B, S, D).
        key_padding_mask: (B, S) bool, True on padding.

    Returns:
        The weights (B, N, T, S) of each head, rows of which sum to 1 and are 0 on padding; and the result (B, T, D).

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
    """
    parts = zip((query, key, value), attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    heads = attention.num_heads
    q, k, v = (F.linear(*part).unflatten(2, (heads, -1)).transpose(1, 2) for part in parts)
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    if key_padding_mask is not None:
        scores = scores.masked_fill(key_padding_mask[:, None, None], float("-inf"))
    weights = scores.float().softmax(-1)
    if torch.is_grad_enabled() and not weights.requires_grad:
        weights.requires_grad_(True)  # the first one over queries depends on no image, and still is asked
    attended: Tensor = attention.out_proj((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))
    return weights, attended


@contextmanager
def _without_gradients(model: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient within, so that nothing is kept of the backbone for a backward pass."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


class Step(NamedTuple):
    """A step of the forward pass.

    Args:
        name: of what it gives.
        shape: of that.
        what: a few words on it.
    """

    name: str
    shape: tuple[int, ...]
    what: str

    @property
    def shown(self) -> str:
        """The shape for people."""
        return shown_shape(self.shape)


def shown_shape(shape: Sequence[int]) -> str:
    """Such as 2×256×28×34."""
    return "×".join(map(str, shape))


def forward_steps(model: DetrPanoptic, recording: Recording, masks: MaskRecording | None) -> list[Step]:
    """The shapes of every step, from the batch of images to mask logits; each as if all Q queries had been computed.

    Args:
        model: that the recording is of.
        recording: of a forward pass.
        masks: of the mask head for some of the queries; None without one.
    """
    outputs, head = recording.outputs, model.detr
    memory, logits = outputs["memory"], outputs["pred_logits"]
    batch, width, rows, columns = memory.shape
    queries = logits.shape[1]
    steps = [Step("images", (batch, 3, *recording.sizes[0].padded), "normalised; smaller ones of the batch are padded")]
    strides = {"res2": 4, "res3": 8, "res4": 16, head.feature: round(recording.sizes[0].padded[0] / rows)}
    for name, feature in outputs["features"].items():
        steps.append(Step(name, tuple(feature.shape), f"backbone, 1/{strides.get(name, '?')} of the image's sides"))
    steps += [
        Step(
            "projected", tuple(outputs["projected"].shape), f"a 1×1 convolution of {head.feature} to {width} channels"
        ),
        Step("tokens", (batch, rows * columns, width), "the same, a place a row; with sine positions added to each"),
    ]
    steps += [
        Step("encoder attention", tuple(w.shape), f"layer {n}: heads, from, to")
        for n, w in enumerate(recording.encoder, 1)
    ]
    steps += [
        Step("memory", tuple(memory.shape), "the encoded image"),
        Step("query_embed", (queries, width), "learned, the same for every image"),
        Step("decoder attention", tuple(recording.decoder_cross[-1].shape), "in each layer: heads, queries, places"),
        Step("hidden_states", tuple(outputs["hidden_states"].shape), "the queries after each decoder layer"),
        Step("pred_logits", tuple(logits.shape), f"{logits.shape[2] - 1} classes and no-object"),
        Step("pred_boxes", tuple(outputs["pred_boxes"].shape), "cx, cy, w, h in 0..1 of the image"),
    ]
    if masks is None:
        return steps
    attention = (batch, queries, *masks.attention.shape[1:])
    joined = head.transformer.d_model + masks.attention.shape[1]
    steps += [
        Step("attention maps", attention, "mask head: one map for each query and head"),
        Step("mask head's input", (batch, queries, joined, rows, columns), "these maps beside the projected features"),
    ]
    names = ("", "", " with res4", " with res3", " with res2")
    for number, (step, name) in enumerate(zip(masks.steps, names, strict=True), start=1):
        steps.append(Step(f"mask step {number}", (batch, queries, *step.shape[1:]), f"convolution{name}, norm, ReLU"))
    return [*steps, Step("pred_masks", (batch, queries, *masks.logits.shape[1:]), "logits, above 0 inside")]
