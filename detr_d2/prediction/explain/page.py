"""An explained image as one page that stands alone, and as single PNGs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detr_d2.pages import thumbnail, write_page
from detr_d2.progress import progress
from detr_d2.visualization import draw_panoptic, enlargement

from . import detector_figures, mask_figures
from .canvas import Drawn
from .explaining import ExplainedQuery, Explanation, Won, inner_point, query_at, won_and_lost
from .maps import heat_share, token_at
from .query_figures import match_result, matching_figure
from .recording import forward_steps

_TEMPLATE = Path(__file__).parent / "templates" / "explain.html"
_LARGE, _SMALL = 1400, 1100
#: So many objects' centres are points from which the encoder looks, where none are named.
_POINTS = 4


def write_explanation(
    explanation: Explanation,
    metadata: Any,
    output: Path,
    points: Sequence[tuple[float, float]] = (),
    places: Drawn | None = None,
) -> Path:
    """Writes ``output/explain.html`` and its figures as PNGs beside it.

    Args:
        explanation: of the image.
        metadata: Detectron2's ``Metadata``: names and colours.
        output: a folder; it is made.
        points: x, y at network size from which the encoder looks; by default centres of the found objects.
        places: the queries over a folder, see ``places_figure``.

    Returns:
        The page.
    """
    points = list(points) or default_points(explanation)
    fates = won_and_lost(explanation) if explanation.masks is not None else []
    matched = match_result(explanation)
    figures = {"result": result_figure(explanation, metadata), **_detector_figures(explanation, points)}
    if places is not None:
        figures["places"] = places
    if fates:
        figures["argmax"] = mask_figures.argmax_figure(explanation, fates)
    if matched.names:
        figures["matching"] = matching_figure(matched)
    of_queries, heads, steps_of_masks = _query_figures(explanation)
    for drawn in [*figures.values(), *of_queries, *heads, *steps_of_masks]:
        drawn.save(output)
    return write_page(
        output / "explain.html",
        _TEMPLATE,
        title=f"How DETR sees {output.name}",
        figures={name: _shown(drawn, _LARGE) for name, drawn in figures.items()},
        of_queries=[_shown(drawn, _SMALL) for drawn in of_queries],
        heads=[_shown(drawn, _SMALL) for drawn in heads],
        steps_of_masks=[_shown(drawn, _SMALL) for drawn in steps_of_masks],
        rows=[_row(query) for query in explanation.queries],
        fates=[_fate(query, fate) for query, fate in zip(explanation.queries, fates)],
        looks=_looks(explanation, points),
        matched=list(zip(matched.names, matched.query_of.tolist(), strict=True)),
        steps=forward_steps(explanation.model, explanation.recording, explanation.masks),
        facts=_facts(explanation),
    )


def default_points(explanation: Explanation) -> list[tuple[float, float]]:
    """Centres of the found objects, in the order of :func:`_interest`; the image's centre where nothing was found."""
    ordered = sorted(explanation.queries, key=_interest)
    height, width = explanation.sizes.image
    by_token: dict[int, tuple[float, float]] = {}
    for x, y in map(inner_point, ordered):
        if 0 <= x < width and 0 <= y < height:
            by_token.setdefault(token_at((x, y), explanation.recording.grid, explanation.sizes), (x, y))
    return list(by_token.values())[:_POINTS] or [(width / 2, height / 2)]


def _interest(query: ExplainedQuery) -> tuple[bool, bool]:
    """To sort queries by: those that are in the map come first, as others repeat their objects; things before stuff."""
    return not query.segment, not query.category.is_thing


def _detector_figures(explanation: Explanation, points: Sequence[tuple[float, float]]) -> dict[str, Drawn]:
    figures = {"backbone": detector_figures.backbone_figure(explanation)}
    if explanation.recording.encoder:
        figures["encoder"] = detector_figures.encoder_figure(explanation, points)
    figures["extremities"] = detector_figures.extremities_figure(explanation)
    figures["active"] = detector_figures.active_figure(explanation)
    figures["layers"] = detector_figures.box_layers_figure(explanation)
    return figures


def _query_figures(explanation: Explanation) -> tuple[list[Drawn], list[Drawn], list[Drawn]]:
    """Of every query its shares, and with a mask head its attention maps and the steps of its mask."""
    shares, heads, steps = list[Drawn](), list[Drawn](), list[Drawn]()
    ordered = sorted(range(len(explanation.queries)), key=lambda number: _interest(explanation.queries[number]))
    for number in progress(ordered, len(ordered), "query"):
        shares.append(detector_figures.query_figure(explanation, number))
        if explanation.masks is not None:
            heads.append(mask_figures.heads_figure(explanation, number))
            steps.append(mask_figures.fpn_figure(explanation, number))
    return shares, heads, steps


def result_figure(explanation: Explanation, metadata: Any) -> Drawn:
    """The image beside what the model sees in it: panoptic map or boxes."""
    if explanation.panoptic is None:
        return detector_figures.boxes_figure(explanation)
    overlay = draw_panoptic(explanation.image, *explanation.panoptic, metadata, enlargement(*explanation.sizes.image))
    return mask_figures.overlay_figure(explanation, overlay)


def _shown(drawn: Drawn, long_side: int) -> dict[str, str]:
    """A figure for the page."""
    return {
        "address": thumbnail(drawn.image, long_side, quality=86),
        "alt": drawn.alt,
        "caption": drawn.caption,
        "file": f"{drawn.name}.png",
    }


def _row(query: ExplainedQuery) -> dict[str, Any]:
    return {
        "query": query.index,
        "name": query.category.name,
        "color": query.category.color,
        "score": query.score,
        "attention": query.attention_share,
        "relevance": query.relevance_share,
        "border": query.border_share,
    }


def _fate(query: ExplainedQuery, fate: Won) -> dict[str, Any]:
    own = {"query": query.index, "name": query.category.name, "color": query.category.color, "segment": query.segment}
    return own | {"mask": fate.mask, "won": fate.won, "lost": fate.lost}


def _looks(explanation: Explanation, points: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """For each point on an object the part of the last encoder layer's attention that stays on that object."""
    if not explanation.recording.encoder:
        return []
    recording, found = explanation.recording, []
    for x, y in points:
        here = query_at(explanation, (x, y))
        if here is None:
            continue
        token = token_at((x, y), recording.grid, explanation.sizes)
        heat = recording.encoder[-1].detach()[0, :, token].mean(0).view(recording.grid).cpu()
        share = heat_share(heat, torch.from_numpy(here.region))
        found.append({"name": here.category.name, "x": round(x), "y": round(y), "share": share})
    return found


def _facts(explanation: Explanation) -> dict[str, Any]:
    """What the page's sentences say of this image."""
    outputs, recording = explanation.recording.outputs, explanation.recording
    rows, columns = recording.grid
    height, width = explanation.sizes.image
    ratios = [query.attention_share.ratio for query in explanation.queries if query.attention_share.ratio is not None]
    return {
        "height": height,
        "width": width,
        "rows": rows,
        "columns": columns,
        "feature": explanation.model.detr.feature,
        "channels": int(outputs["features"][explanation.model.detr.feature].shape[1]),
        "hidden": int(outputs["memory"].shape[1]),
        "stride": round(height / rows),
        "queries": len(explanation.scores),
        "classes": len(explanation.model.categories),
        "encoder_layers": len(recording.encoder),
        "decoder_layers": len(recording.decoder_cross),
        "layer": explanation.layer + 1,
        "heads": int(recording.decoder_cross[-1].shape[1]),
        "mask_heads": int(explanation.masks.attention.shape[1]) if explanation.masks is not None else 0,
        "has_masks": explanation.masks is not None,
        "above_threshold": explanation.above_threshold,
        "active": len(explanation.queries),
        "mean_ratio": float(np.mean(ratios)) if ratios else None,
    }
