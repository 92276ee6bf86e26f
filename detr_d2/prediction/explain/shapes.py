"""Every step of a forward pass with the shape of what it gives, for one batch."""

from __future__ import annotations

from typing import NamedTuple

from detr_d2.meta_arch import DetrPanoptic

from .recording import MaskRecording, Recording


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
        """Such as 2×256×28×34."""
        return "×".join(str(length) for length in self.shape)


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
