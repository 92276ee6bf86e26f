"""Figures of all queries: where each finds its objects over a folder of images, and how training would match them.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", figure 7.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.lines import Line2D
from torch import Tensor

from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling.box_ops import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh, generalized_box_iou
from detr_d2.visualization.label_layout import figure_text

from .canvas import HEAT, Drawn, finish, panels
from .explaining import Explanation

#: A box of a smaller part of the image is small.
SMALL = 0.04
COLORS = {"small": "#2ca02c", "wide": "#d62728", "tall": "#1f77b4"}
_PANELS = 100


@torch.no_grad()
def collect_boxes(model: DetrPanoptic, images: Iterable[Tensor]) -> Tensor:
    """The boxes of all queries on every image.

    Args:
        model: in evaluation mode.
        images: (3, H, W) each, as the model takes them.

    Returns:
        (N, Q, 6): cx, cy, w, h in 0..1 of the image, the height divided by the width of the image, and 1 where the
        query is kept, else 0.
    """
    found = []
    for image in images:
        outputs, _ = model.detect([{"image": image}])
        boxes = outputs["pred_boxes"][0].float()
        shape = torch.full((len(boxes), 1), image.shape[-2] / image.shape[-1], device=boxes.device)
        kept = torch.zeros_like(shape)
        kept[model.postprocess.segments(outputs["pred_logits"][0])[0]] = 1
        found.append(torch.cat([boxes, shape, kept], dim=1).cpu())
    queries = model.detr.query_embed.num_embeddings
    return torch.stack(found) if found else torch.zeros(0, queries, 6)


def kinds_of(boxes: np.ndarray) -> np.ndarray:
    """(...,) "small", "wide" or "tall" of boxes (..., 6) of :func:`collect_boxes`."""
    width, height, shape = boxes[..., 2], boxes[..., 3], boxes[..., 4]
    return np.where(width * height < SMALL, "small", np.where(height * shape > width, "tall", "wide"))


def places_figure(boxes: Tensor) -> Drawn:
    """A panel a query: the centres of its boxes on all images; strong dots are kept ones.

    Args:
        boxes: (N, Q, 6) of :func:`collect_boxes`, N at least 1.
    """
    values = boxes.numpy()
    shown = min(values.shape[1], _PANELS)
    kinds = kinds_of(values)
    columns = min(10, max(5, math.ceil(math.sqrt(shown))))
    figure, axes = panels(shown, 1.0, columns, 13, 0.7)
    for query, axis in enumerate(axes):
        for kept, alpha, size in ((0, 0.25, 5), (1, 0.95, 13)):
            for kind, color in COLORS.items():
                chosen = (kinds[:, query] == kind) & (values[:, query, 5] == kept)
                axis.scatter(
                    values[chosen, query, 0], values[chosen, query, 1], s=size, c=color, alpha=alpha, linewidths=0
                )
        axis.set(xlim=(0, 1), ylim=(1, 0))
        axis.set_title(f"query {query}: kept {int(values[:, query, 5].sum())}×", fontsize=8, pad=2)
    keys = [
        Line2D([], [], color=color, ls="", marker="o", label=label)
        for color, label in zip(COLORS.values(), (f"small (under {100 * SMALL:.0f} % of the image)", "wide", "tall"))
    ]
    keys.append(Line2D([], [], color="gray", ls="", marker="o", ms=3, alpha=0.4, label="not kept (no object)"))
    figure.legend(handles=keys, loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    alt = f"For each of {shown} queries a square with the centres of its boxes on {len(values)} images."
    caption = (
        f"Each square is an image of any size; each dot the centre of a query's box on one of {len(values)} images. "
        "Queries share the image among them: each has places, sizes and shapes of its own."
    )
    return finish(figure, "query_places", alt, caption)


class Matched(NamedTuple):
    """The matching of training, with the result in the ground truth's place.

    Args:
        names: of the N targets.
        costs: (N, Q) what it would cost that a query answers for a target.
        query_of: (N,) the query that does, one to one, at the least sum.
    """

    names: list[str]
    costs: np.ndarray
    query_of: np.ndarray


@torch.no_grad()
def match_result(explanation: Explanation) -> Matched:
    """Matches all queries with the model's own segments, or boxes, as if people had labelled them.

    Things and stuff are targets alike, each with the box around its pixels.
    """
    labels, boxes, names = _targets(explanation)
    outputs, model = explanation.recording.outputs, explanation.model
    logits, predicted = outputs["pred_logits"].detach()[:1], outputs["pred_boxes"].detach()[:1]
    if not len(labels):
        return Matched([], np.zeros((0, logits.shape[1])), np.zeros(0, np.int64))
    matcher = model.criterion.matcher
    ((queries, targets),) = matcher(logits, predicted, [{"labels": labels, "boxes": boxes}])
    probability, own = logits[0].float().softmax(-1), predicted[0].float()
    distance = torch.cdist(own, boxes, p=1)
    giou = generalized_box_iou(box_cxcywh_to_xyxy(own)[:, None], box_cxcywh_to_xyxy(boxes))
    costs = matcher.cost_bbox * distance - matcher.cost_class * probability[:, labels] - matcher.cost_giou * giou
    query_of = np.zeros(len(labels), np.int64)
    query_of[targets.numpy()] = queries.numpy()
    return Matched(names, costs.T.cpu().numpy(), query_of)


def _targets(explanation: Explanation) -> tuple[Tensor, Tensor, list[str]]:
    """Labels (N,), boxes (N, 4) cx, cy, w, h in 0..1 and names of what the model found."""
    model, (height, width) = explanation.model, explanation.sizes.image
    found: list[tuple[int, list[float]]] = []
    if explanation.panoptic is not None:
        ids, segments = explanation.panoptic
        for segment in segments:
            rows, columns = np.nonzero(ids == segment["id"])
            edges = [columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height]
            found.append((segment["category_id"], edges))
    else:
        scale = np.array([width, height] * 2)
        found = [(query.class_index, list(np.array(query.box) / scale)) for query in explanation.queries]
    labels = torch.tensor([label for label, _ in found], dtype=torch.int64, device=model.device)
    edges_ = torch.tensor([edges for _, edges in found], dtype=torch.float32, device=model.device).view(-1, 4)
    return labels, box_xyxy_to_cxcywh(edges_), [model.categories[label].name for label, _ in found]


def matching_figure(matched: Matched, most_queries: int = 60, most_targets: int = 30) -> Drawn:
    """The costs of all pairs as a table of colours, the chosen pairs marked.

    Args:
        matched: with at least one target.
        most_queries: columns; where there are more, those shown are the matched ones and others of low costs.
        most_targets: rows, no more than ``most_queries``; where there are more, the first are shown.
    """
    names, query_of = matched.names[:most_targets], matched.query_of[:most_targets]
    all_costs = matched.costs[:most_targets]
    best = np.argsort(all_costs.min(0), kind="stable")
    chosen = sorted(list(dict.fromkeys([*query_of.tolist(), *best.tolist()]))[:most_queries])
    costs = all_costs[:, chosen]
    figure, (axis,) = panels(1, min(0.08 + 0.035 * len(costs), 0.6), 1, 13)
    axis.set_box_aspect(None)  # the colour bar takes some of the width
    drawn = axis.imshow(costs, cmap=f"{HEAT}_r", aspect="auto")
    columns = [chosen.index(query) for query in query_of]
    axis.scatter(
        columns, range(len(columns)), marker="o", s=90, facecolors="none", edgecolors="#00e5ff", linewidths=2.6
    )
    axis.set_yticks(range(len(costs)), [figure_text(name) for name in names], fontsize=9)
    axis.set_xticks(
        range(len(chosen)), [str(query) for query in chosen], fontsize=8, rotation=90 if len(chosen) > 30 else 0
    )
    axis.set_xlabel("query", fontsize=9)
    axis.set_title("what each pair would cost (light: little); rings: the matching", fontsize=10)
    figure.colorbar(drawn, ax=axis, fraction=0.02, pad=0.01).ax.tick_params(labelsize=8)
    alt = "A table of colours: targets as rows, queries as columns, costs as colours; the matched pairs have rings."
    caption = (
        "Each row, a segment, gets exactly one query, so that the sum of costs is least; all others learn 'no object'."
    )
    return finish(figure, "07_matching", alt, caption)
