"""Figures of the mask head and of the way from masks to the panoptic map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import CenteredNorm, to_rgb

from detr_d2.modeling import upsample_masks
from detr_d2.pages.rendering import shown_number
from detr_d2.visualization.label_layout import figure_text

from .canvas import Drawn, draw_box, draw_outline, finish, panels, query_color, show, show_features, show_heat
from .explaining import Explanation, Won
from .recording import MaskRecording, shown_shape

#: What joins the query's own features before each of the five convolutions.
JOINS = ("projected features", "", "res4", "res3", "res2")
#: Signs of logits: below 0 outside of the mask, above 0 inside.
_SIGNED = "RdBu_r"
_LOST = to_rgb("#d62728")


def heads_figure(explanation: Explanation, number: int) -> Drawn:
    """A query's attention maps, one for each head of the mask head."""
    masks, query, image = _masks(explanation), explanation.queries[number], explanation.image
    maps = masks.attention[number]
    figure, axes = panels(len(maps) + 1, image.shape[0] / image.shape[1], 5, 13)
    show(axes[0], image, figure_text(f"query {query.index}: {query.name}"))
    draw_box(axes[0], query.box, query_color(number))
    largest = float(maps.max().clamp(min=1e-12))
    for head, (axis, heat) in enumerate(zip(axes[1:], maps), start=1):
        show_heat(axis, explanation, heat, f"head {head}: {100 * float(heat.sum()):.0f} % of all", largest)
        draw_outline(axis, query.region, query_color(number))
    alt = (
        f"The image with the box of query {query.index} and a map of where each of the mask head's heads looks for it."
    )
    caption = "One softmax over all heads and places together, so all maps of a query add up to 1; one scale for all."
    return finish(figure, f"mask_{query.index:03d}_heads", alt, caption)


def fpn_figure(explanation: Explanation, number: int) -> Drawn:
    """What the mask head makes of a query step by step, and what of the backbone joins where."""
    masks, query, image = _masks(explanation), explanation.queries[number], explanation.image
    figure, axes = panels(2 * 7, image.shape[0] / image.shape[1], 7, 13.5, 2)
    top, bottom = axes[:7], axes[7:]
    outputs, attention = explanation.recording.outputs, masks.attention[number]
    joins = [outputs["projected"], None, *(outputs["features"][name] for name in ("res4", "res3", "res2"))]
    show_heat(bottom[0], explanation, attention.sum(0), f"attention maps\n{shown_shape(attention.shape)}")
    show(top[0], image, f"query {query.index}")
    draw_box(top[0], query.box, query_color(number))
    for step, (features, name) in enumerate(zip(joins, JOINS), start=1):
        if features is None:
            top[step].set_axis_off()
        else:
            show_features(top[step], features[0], f"+ {name}")
        show_features(bottom[step], masks.steps[step - 1][number], f"convolution {step}")
    logits = masks.logits[number].cpu().numpy()
    title = f"mask logits\n{shown_shape(logits.shape)}"
    show(bottom[6], logits, title, cmap=_SIGNED, norm=CenteredNorm(), aspect="auto")
    show(top[6], image, "logit above 0\nin the image")
    draw_outline(top[6], query.region, query_color(number))
    alt = f"Above, the features that join; below, what the mask head has of query {query.index} after every step."
    caption = (
        "Below, from left to right: the query's maps, what each convolution makes of them, the logits (red: inside). "
        "Above: which features of the image are added before that step; the coarsest come in by projection."
    )
    return finish(figure, f"mask_{query.index:03d}_steps", alt, caption)


def argmax_figure(explanation: Explanation, fates: Sequence[Won]) -> Drawn:
    """Of every query its logits, and which pixels of its mask it won and lost."""
    masks, image = _masks(explanation), explanation.image
    logits = upsample_masks(masks.logits, explanation.sizes).cpu().numpy()
    rows = -(-len(fates) // 8)
    columns = max(-(-len(fates) // rows), 4)
    figure, axes = panels(2 * columns * rows, image.shape[0] / image.shape[1], columns, 13.5)
    for axis in axes:
        axis.set_axis_off()
    grey = 0.45 + 0.45 * image.astype(np.float32).mean(2, keepdims=True) / 255
    for number, (query, fate) in enumerate(zip(explanation.queries, fates, strict=True)):
        own, (row, column) = query_color(number), divmod(number, columns)
        upper, lower = axes[2 * row * columns + column], axes[(2 * row + 1) * columns + column]
        upper.set_axis_on()
        lower.set_axis_on()
        bound = max(float(np.abs(logits[number]).max()), 1e-6)
        show(upper, logits[number], figure_text(f"{query.index}: {query.name}"), cmap=_SIGNED, vmin=-bound, vmax=bound)
        painted, shared = np.repeat(grey, 3, axis=2), query.region & ~fate.decided & ~fate.other
        for mask, color, part in ((fate.decided, own, 0.75), (shared, own, 0.35), (fate.other, _LOST, 0.75)):
            painted[mask] = (1 - part) * painted[mask] + part * np.array(color)
        lost = 100 * fate.lost / fate.mask if fate.mask else 0.0
        show(lower, painted, f"{shown_number(fate.won)} px won, {lost:.0f} % lost" if query.segment else "left out")
    alt = "For every kept query its mask logits, and below them which pixels it won and which it lost to others."
    caption = (
        "Above: logits, red above 0 (the binary mask), blue below. Below: pixels that the query won in its own colour, "
        "paler those that another query of the same stuff won; in red those of its mask that another segment has."
    )
    return finish(figure, "06_argmax", alt, caption)


def overlay_figure(explanation: Explanation, overlay: np.ndarray) -> Drawn:
    """The image beside what the model sees in it.

    Args:
        explanation: of the image.
        overlay: (H', W', 3) uint8, the drawn result.
    """
    image = explanation.image
    figure, axes = panels(2, image.shape[0] / image.shape[1], 2, 13)
    show(axes[0], image, "image")
    show(axes[1], overlay, "panoptic map", interpolation="antialiased")
    names = ", ".join(query.name for query in explanation.queries)
    return finish(
        figure, "00_result", f"The image beside its panoptic map: {names}.", "The image and its panoptic map."
    )


def _masks(explanation: Explanation) -> MaskRecording:
    if explanation.masks is None:
        raise ValueError("the model predicts boxes only: there is no mask head to be drawn.")
    return explanation.masks
