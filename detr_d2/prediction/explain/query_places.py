"""Where each query finds its objects, over a folder of images.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", figure 7.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from matplotlib.lines import Line2D
from torch import Tensor

from detr_d2.meta_arch import DetrPanoptic

from .canvas import Drawn, finish, panels

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
