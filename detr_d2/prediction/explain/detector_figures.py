"""Figures of backbone, encoder, decoder and queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from detr_d2.modeling.box_ops import box_cxcywh_to_xyxy
from detr_d2.visualization.label_layout import Rectangle as Area
from detr_d2.visualization.label_layout import figure_text

from .canvas import (
    Drawn,
    draw_apart,
    draw_box,
    draw_outline,
    draw_point,
    draw_query_boxes,
    draw_query_names,
    finish,
    panels,
    query_color,
    show,
    show_features,
    show_heat,
)
from .explaining import ExplainedQuery, Explanation, query_at
from .maps import over_image, principal_colors, relative, token_at
from .recording import shown_shape

STAGES = ("res2", "res3", "res4", "res5")


def backbone_figure(explanation: Explanation) -> Drawn:
    """What each stage makes of the image: where it answers strongly, and which places are alike."""
    outputs, image = explanation.recording.outputs, explanation.image
    features = {name: outputs["features"][name] for name in STAGES if name in outputs["features"]} | {
        "projected": outputs["projected"],
        "memory": outputs["memory"],
    }
    figure, axes = panels(2 * (len(features) + 1), image.shape[0] / image.shape[1], len(features) + 1, 13, 2)
    top, bottom = axes[: len(features) + 1], axes[len(features) + 1 :]
    show(top[0], image, f"image\n3×{image.shape[0]}×{image.shape[1]}")
    show(bottom[0], image, f"its {shown_shape(explanation.recording.grid)} places\nof the encoded image")
    _draw_grid(bottom[0], image, explanation.recording.grid)
    for above, below, (name, feature) in zip(top[1:], bottom[1:], features.items()):
        show_features(above, feature[0], name)
        colors = principal_colors(feature[0].detach().float())
        show(below, colors, f"{name}\nlike colours: alike", aspect="auto", interpolation="nearest")
    alt = "The image and, for each stage of the backbone, a map of how strongly it answers and one of like features."
    caption = (
        "Above: how strongly each place answers (length of its feature vector). Below: the three directions in which "
        "features differ most, as red, green and blue, so that places of like colour have like features."
    )
    return finish(figure, "01_backbone", alt, caption)


def _draw_grid(axis: Axes, image: np.ndarray, grid: tuple[int, int]) -> None:
    height, width = image.shape[:2]
    for row in range(1, grid[0]):
        axis.axhline(row * height / grid[0] - 0.5, color="white", lw=0.6, alpha=0.8)
    for column in range(1, grid[1]):
        axis.axvline(column * width / grid[1] - 0.5, color="white", lw=0.6, alpha=0.8)


def encoder_figure(explanation: Explanation, points: Sequence[tuple[float, float]]) -> Drawn:
    """Where the encoder's layers look from some points: a row a point, a column a layer.

    Args:
        explanation: of a model with encoder layers.
        points: x, y at network size, at least one.
    """
    recording, image, sizes = explanation.recording, explanation.image, explanation.sizes
    views, aspect = len(recording.encoder) + 1, image.shape[0] / image.shape[1]
    is_wide = views >= len(points)  # a row a point; else a column a point
    columns = views if is_wide else len(points)
    figure, axes = panels(len(points) * views, aspect, columns, min(13, 4.5 * columns))
    for number, point in enumerate(points):
        own = axes[number * views : (number + 1) * views] if is_wide else axes[number :: len(points)]
        show(own[0], image, f"point {number + 1}: {_what_is_at(explanation, point)}")
        token = token_at(point, recording.grid, sizes)
        for layer, (axis, attention) in enumerate(zip(own[1:], recording.encoder), start=1):
            heat = attention.detach()[0, :, token].mean(0).view(recording.grid)
            show_heat(axis, explanation, heat, f"encoder layer {layer}, {_peak(heat)}")
        for axis in own:
            draw_point(axis, *point)
    alt = "For each marked point of the image, maps of where every encoder layer looks from there."
    caption = (
        "Light: much attention from the cross to that place, mean of all heads. Each panel has its own scale, from 0"
        " to its largest value, given as so many times what each place would have of attention spread evenly."
    )
    return finish(figure, "02_encoder", alt, caption)


def _what_is_at(explanation: Explanation, point: tuple[float, float]) -> str:
    query = query_at(explanation, point)
    return f"{point[0]:.0f}, {point[1]:.0f}" if query is None else figure_text(query.category.name)


def extremities_figure(explanation: Explanation) -> Drawn:
    """Every query's decoder attention over one image, each in its own colour, with boxes: DETR's figure 6."""
    image = explanation.image
    grey = 0.25 + 0.6 * image.astype(np.float32).mean(2, keepdims=True) / 255
    painted = np.repeat(grey, 3, axis=2)
    for number, query in enumerate(explanation.queries):
        heat = relative(over_image(query.attention, explanation.sizes))[..., None] ** 1.5
        painted = painted * (1 - 0.75 * heat) + 0.75 * heat * np.array(query_color(number), np.float32)
    figure, axes = panels(2, image.shape[0] / image.shape[1], 2, 13)
    show(axes[0], image, f"boxes of {len(explanation.queries)} queries")
    show(axes[1], np.clip(painted, 0, 1), f"where they look in decoder layer {explanation.layer + 1}")
    for axis in axes:
        draw_query_boxes(axis, explanation)
    draw_query_names(figure, explanation)
    alt = "The image with each query's box, beside the same boxes over where each query looks, in its own colour."
    caption = "Each query has a colour. Its attention tends to lie at the ends of its object: where the box is decided."
    return finish(figure, "03_extremities", alt, caption)


def boxes_figure(explanation: Explanation) -> Drawn:
    """The image beside the boxes that a model without a mask head finds in it."""
    image = explanation.image
    figure, axes = panels(2, image.shape[0] / image.shape[1], 2, 13)
    show(axes[0], image, "image")
    show(axes[1], image, "boxes")
    draw_query_boxes(axes[1], explanation)
    draw_query_names(figure, explanation)
    names = ", ".join(query.name for query in explanation.queries)
    return finish(figure, "00_result", f"The image beside its boxes: {names}.", "The image and the boxes found in it.")


def query_figure(explanation: Explanation, number: int) -> Drawn:
    """One query: box and mask, attention, relevance, and how much of both lies inside."""
    query, image = explanation.queries[number], explanation.image
    color = query_color(number)
    aspect = image.shape[0] / image.shape[1]
    figure, axes = panels(4, aspect, 4, 13)
    region = "mask" if explanation.masks is not None else "box"
    show(axes[0], image, figure_text(f"query {query.index}: {query.name}"))
    if region == "mask":
        draw_box(axes[0], query.box, color)
    looks = f"attention, layer {explanation.layer + 1}, {_peak(query.attention)}"
    show_heat(axes[1], explanation, query.attention, looks)
    show_heat(axes[2], explanation, query.relevance, f"relevance, all layers, {_peak(query.relevance)}")
    for axis in axes[:3]:
        draw_outline(axis, query.region, color)
    _draw_shares(axes[3], query, region)
    alt = f"Query {query.index}: {query.name}. Its {region}, where it looks, what its class depends on; shares inside."
    share, chance = query.attention_share.inside, query.attention_share.chance
    caption = (
        f"query {query.index}: {query.name}. Of its attention {100 * share:.0f} % lies inside its {region}, which is "
        f"{100 * chance:.0f} % of the image (chance); of its relevance {100 * query.relevance_share.inside:.0f} %."
    )
    return finish(figure, f"query_{query.index:03d}", alt, caption)


def _draw_shares(axis: Axes, query: ExplainedQuery, region: str) -> None:
    names = ["relevance", "attention"]
    shares = [100 * query.relevance_share.inside, 100 * query.attention_share.inside]
    axis.barh(names, shares, color=["#b5367a", "#fb8861"], height=0.5)
    chance = 100 * query.attention_share.chance
    axis.axvline(chance, color="black", ls="--", lw=1.5)
    is_left = chance < 60
    label = f"chance {chance:.0f} %"
    axis.text(chance + (2 if is_left else -2), 1.62, label, ha="left" if is_left else "right", fontsize=9)
    for row, value in enumerate(shares):
        is_long = value > 80  # its number stands inside
        options: dict[str, Any] = {"ha": "right", "color": "white"} if is_long else {"ha": "left", "color": "black"}
        axis.text(value + (-2 if is_long else 2), row, f"{value:.0f} %", va="center", fontsize=10, **options)
    axis.set(xlim=(0, 100), ylim=(-0.6, 1.95), xticks=[0, 50, 100])
    axis.set_yticks([0, 1], names)
    axis.tick_params(labelsize=9)
    axis.set_title(f"share inside the {region}", fontsize=10)


def active_figure(explanation: Explanation) -> Drawn:
    """All queries of this image: where their boxes' centres lie, and which are active."""
    image, scores = explanation.image, explanation.scores
    boxes = explanation.recording.outputs["pred_boxes"][0].detach().cpu().numpy()
    x, y = boxes[:, 0] * image.shape[1], boxes[:, 1] * image.shape[0]
    active = {query.index: number for number, query in enumerate(explanation.queries)}
    figure, (left, right) = panels(2, image.shape[0] / image.shape[1], 2, 13, 2)
    show(left, image, f"centres of all {len(scores)} boxes; {len(active)} are active")
    idle = np.array([index for index in range(len(scores)) if index not in active], dtype=int)
    left.scatter(x[idle], y[idle], s=26, facecolors="none", edgecolors="black", linewidths=2.4)
    left.scatter(x[idle], y[idle], s=26, facecolors="none", edgecolors="#dddddd", linewidths=1.1)
    for index, number in active.items():
        left.scatter([x[index]], [y[index]], s=85, color=[query_color(number)], edgecolors="black", linewidths=1.2)
    _number_points(left, [(index, x[index], y[index], query_color(number)) for index, number in active.items()])
    colors = [query_color(active[index]) if index in active else "#b8b8b8" for index in range(len(scores))]
    right.bar(np.arange(len(scores)), scores, color=colors, width=0.85)
    _draw_thresholds(right, explanation)
    right.set(xlim=(-1, len(scores)), ylim=(0, 1.02), xlabel="query", ylabel="probability of its best class")
    right.set_title("which queries are active", fontsize=10)
    right.set_xticks(np.arange(0, len(scores), 5 if len(scores) <= 40 else 20))
    right.set_yticks([0, 0.5, 1])
    alt = "Centres of all queries' boxes on the image, active ones coloured, and a bar for the score of each query."
    caption = "Coloured: queries above the threshold. All others answer 'no object', though each has a box, too."
    return finish(figure, "04_active_queries", alt, caption)


def _number_points(axis: Axes, points: Sequence[tuple[int, float, float, Any]]) -> None:
    """Numbers beside dots, on the side where they cover nothing: number, x, y and colour of each."""
    left, right = axis.get_xlim()
    gap = (right - left) / 60
    texts = [(str(number), color) for number, _, _, color in points]
    sides = ((1, 0, "left", "center"), (-1, 0, "right", "center"), (0, -1, "center", "bottom"), (0, 1, "center", "top"))
    anchors = [[(x + gap * dx, y + gap * dy, ha, va) for dx, dy, ha, va in sides] for _, x, y, _ in points]
    draw_apart(axis, texts, anchors, [Area(x - gap, y - gap, x + gap, y + gap) for _, x, y, _ in points])


def _draw_thresholds(axis: Axes, explanation: Explanation) -> None:
    thresholds = explanation.model.postprocess.score_thresholds()
    low, high = float(thresholds.min()), float(thresholds.max())
    axis.axhline(low, color="black", ls="--", lw=1.2)
    if high > low:
        axis.axhspan(low, high, color="black", alpha=0.08)
    label = f"threshold {low:.2g}" if high == low else f"thresholds {low:.2g} to {high:.2g}, by class"
    ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    axis.text(-0.6, low + 0.02, label, ha="left", fontsize=9, bbox=ground)


@torch.no_grad()
def box_layers_figure(explanation: Explanation) -> Drawn:
    """The explained queries' boxes after every decoder layer; each layer is trained to answer."""
    image, detr = explanation.image, explanation.model.detr
    states: Tensor = explanation.recording.outputs["hidden_states"][:, 0].detach()
    probability = detr.class_embed(states).float().softmax(-1)
    boxes = box_cxcywh_to_xyxy(detr.bbox_embed(states).sigmoid().float()).cpu().numpy()
    boxes = boxes * np.array([image.shape[1], image.shape[0]] * 2)
    figure, axes = panels(len(states), image.shape[0] / image.shape[1], min(3, len(states)))
    for layer, axis in enumerate(axes):
        show(axis, image, f"after decoder layer {layer + 1}")
        texts, corners = list[tuple[str, Any]](), []
        for number, query in enumerate(explanation.queries):
            score, box = float(probability[layer, query.index, query.class_index]), boxes[layer, query.index]
            draw_box(axis, box, query_color(number), 0.6 + 1.6 * score)
            texts.append((f"{100 * score:.0f}%", query_color(number)))
            corners.append(_box_corners(box, image.shape[:2]))
        draw_apart(axis, texts, corners)
    alt = "The image with the queries' boxes and scores after each decoder layer."
    caption = "Boxes and scores after each layer, through the same two heads; thin lines: low scores."
    return finish(figure, "05_decoder_layers", alt, caption)


def _box_corners(box: np.ndarray, image_size: tuple[int, ...]) -> list[tuple[float, float, str, str]]:
    """Places for a text at a box's corners, the upper left one first; inside it, then above and below it."""
    height, width = image_size
    gap = width / 150
    x0, y0, x1, y1 = np.clip(box, 0, [width, height] * 2).tolist()
    inside = [(x0 + gap, y0 + gap, "left", "top"), (x1 - gap, y0 + gap, "right", "top")]
    inside += [(x0 + gap, y1 - gap, "left", "bottom"), (x1 - gap, y1 - gap, "right", "bottom")]
    above = [(x0, y0 - gap, "left", "bottom"), (x1, y0 - gap, "right", "bottom")] if y0 > height / 10 else []
    below = [(x0, y1 + gap, "left", "top"), (x1, y1 + gap, "right", "top")] if y1 < 0.9 * height else []
    return [*inside, *above, *below]


def _peak(heat: Tensor) -> str:
    """How far a map is from one that is even: its largest value in words."""
    mean = float(heat.mean())
    return f"up to {float(heat.max()) / mean:.1f}×" if mean > 0 else "none"
