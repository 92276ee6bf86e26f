"""One image explained: what the model found in it, and from what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from detr_d2.data import Category
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling import Sizes, upsample_masks
from detr_d2.modeling.box_ops import box_cxcywh_to_xyxy

from .maps import HeatShare, heat_share, relevance
from .recording import MaskRecording, Recording, record, record_masks

#: Where no query is above the threshold, so many with the highest scores are explained.
_AT_LEAST = 3


@dataclass(frozen=True)
class ExplainedQuery:
    """A query and what its class and mask were made of.

    Args:
        index: 0 to Q - 1.
        category: of its class.
        class_index: contiguous id.
        score: the class's probability.
        box: x0, y0, x1, y1 in pixels of the image at network size.
        segment: id in the panoptic map, 0 where the query has no part in it.
        attention: (h, w) of the chosen decoder layer, the mean of its heads; sums to 1.
        relevance: (h, w), see ``relevance``; without a unit.
        region: (H, W) bool: its own mask, or its box where there is no mask head.
        attention_share, relevance_share: parts of the two inside ``region``.
        border_share: part of ``attention`` along the box's border, half a place of the memory to each side.
    """

    index: int
    category: Category
    class_index: int
    score: float
    box: tuple[float, float, float, float]
    segment: int
    attention: Tensor
    relevance: Tensor
    region: np.ndarray
    attention_share: HeatShare
    relevance_share: HeatShare
    border_share: HeatShare

    @property
    def name(self) -> str:
        """As it is written beside boxes."""
        return f"{self.category.name} {100 * self.score:.0f}%"

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    @property
    def center(self) -> tuple[float, float]:
        """x, y of the box's centre."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


class Won(NamedTuple):
    """What became of a mask in the panoptic map, in pixels at network size.

    Args:
        mask: pixels whose logit is above 0.
        won: pixels of the map that this query's logit decided.
        lost: pixels of ``mask`` that aren't of its segment.
        decided, other: (H, W) bool, what ``won`` and ``lost`` count. What is left of the mask another query of the same
            stuff decided.
    """

    mask: int
    won: int
    lost: int
    decided: np.ndarray
    other: np.ndarray


@dataclass(frozen=True)
class Explanation:
    """An image with everything that pages and figures show of it.

    Args:
        image: (H, W, 3) uint8 RGB at network size.
        recording: of the forward pass, of this image alone.
        queries: the explained ones, highest score first.
        layer: the decoder layer shown, 0 to L - 1.
        above_threshold: False where no query reached the threshold and the best are shown all the same.
        masks: of ``queries``, in their order; None without a mask head.
        panoptic: (H, W) int32 at network size with its segments; None without a mask head.
    """

    model: DetrPanoptic
    image: np.ndarray
    recording: Recording
    queries: list[ExplainedQuery]
    layer: int
    above_threshold: bool
    masks: MaskRecording | None
    panoptic: tuple[np.ndarray, list[dict[str, Any]]] | None

    @property
    def sizes(self) -> Sizes:
        """Of the image; results are at network size."""
        return self.recording.sizes[0]

    @property
    def scores(self) -> np.ndarray:
        """(Q,) the probability of each query's best class, no-object aside."""
        probability = self.recording.outputs["pred_logits"][0].detach().float().softmax(-1)
        return np.asarray(probability[:, :-1].max(-1).values.cpu())


def explain(
    model: DetrPanoptic, network_image: Tensor, image: np.ndarray, layer: int | None = None, most: int = 30
) -> Explanation:
    """Runs the model on an image and explains every query that it keeps.

    Args:
        model: in evaluation mode.
        network_image: (3, H, W), as the model takes it.
        image: (H, W, 3) uint8 RGB, the same to be looked at.
        layer: decoder layer whose attention is shown, 0 to L - 1; None: the last.
        most: explain so many of the kept queries, those with the highest scores.
    """
    recording = record(model, [{"image": network_image}])
    layer = len(recording.decoder_cross) - 1 if layer is None else layer
    (kept, scores, classes), above_threshold = _kept(model, recording.outputs["pred_logits"][0].detach())
    masks, panoptic, segment_of = None, None, dict[int, int]()
    if model.mask_head is not None:
        masks = record_masks(model, recording.outputs, 0, kept)
        used = len(kept) if above_threshold else 0
        ids, segments = model.postprocess.panoptic(
            masks.logits[:used], scores[:used], classes[:used], recording.sizes[0]
        )
        panoptic = np.asarray(ids.cpu()), segments
        segment_of = {number: segment["id"] for segment in segments for number in segment["queries"]}
    order = scores.argsort(descending=True, stable=True)[:most].tolist()
    queries = [
        _explained(
            *(model, recording, layer, int(kept[i]), float(scores[i]), int(classes[i]), segment_of.get(i, 0)),
            mask_logits=None if masks is None else masks.logits[i],
        )
        for i in order
    ]
    masks = None if masks is None else _only(masks, order)
    return Explanation(model, image, recording, queries, layer, above_threshold, masks, panoptic)


def _kept(model: DetrPanoptic, logits: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], bool]:
    """query_index, scores and classes (N,) of the queries to explain, and whether the model keeps them itself."""
    kept = model.postprocess.segments(logits)
    if len(kept[0]):
        return kept, True
    scores, classes = logits.float().softmax(-1)[:, :-1].max(-1)
    best = scores.topk(min(_AT_LEAST, len(scores))).indices
    return (best, scores[best], classes[best]), False


def _explained(
    model: DetrPanoptic,
    recording: Recording,
    layer: int,
    query: int,
    score: float,
    class_index: int,
    segment: int,
    mask_logits: Tensor | None,
) -> ExplainedQuery:
    sizes = recording.sizes[0]
    height, width = sizes.image
    relative_box = box_cxcywh_to_xyxy(recording.outputs["pred_boxes"][0, query].detach().float())
    x0, y0, x1, y1 = (relative_box * relative_box.new_tensor([width, height, width, height])).tolist()
    box, device = (x0, y0, x1, y1), relative_box.device
    if mask_logits is None:
        region = _box_mask(box, sizes, device)
    else:
        region = upsample_masks(mask_logits[None], sizes)[0] > 0
    attention = recording.decoder_cross[layer].detach()[0, :, query].mean(0).view(recording.grid)
    relevant = relevance(recording, 0, query, class_index)
    return ExplainedQuery(
        *(query, model.categories[class_index], class_index, score, box, segment, attention, relevant),
        region=np.asarray(region.cpu()),
        attention_share=heat_share(attention, region),
        relevance_share=heat_share(relevant, region),
        border_share=heat_share(attention, _border_mask(box, recording, device)),
    )


def _box_mask(box: Sequence[float], sizes: Sizes, device: torch.device) -> Tensor:
    """(H, W) bool, True inside the box."""
    x0, y0, x1, y1 = (round(value) for value in box)
    inside = torch.zeros(sizes.image, dtype=torch.bool, device=device)
    inside[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return inside


def _border_mask(box: Sequence[float], recording: Recording, device: torch.device) -> Tensor:
    """(H, W) bool, True within half a place of the memory from the box's border."""
    sizes = recording.sizes[0]
    y, x = (size / cells / 2 for size, cells in zip(sizes.image, recording.grid, strict=True))
    outside = _box_mask((box[0] - x, box[1] - y, box[2] + x, box[3] + y), sizes, device)
    return outside & ~_box_mask((box[0] + x, box[1] + y, box[2] - x, box[3] - y), sizes, device)


def query_at(explanation: Explanation, point: tuple[float, float]) -> ExplainedQuery | None:
    """Of the queries whose region holds a point x, y at network size the one of the smallest region."""
    column, row = (
        min(max(int(value), 0), length - 1) for value, length in zip(point, explanation.sizes.image[::-1], strict=True)
    )
    here = [query for query in explanation.queries if query.region[row, column]]
    return min(here, key=lambda query: int(query.region.sum()), default=None)


def inner_point(query: ExplainedQuery) -> tuple[float, float]:
    """x, y of the pixel of a query's region that is nearest to its box's centre."""
    rows, columns = np.nonzero(query.region)
    x, y = query.center
    if not len(rows):
        return x, y
    nearest = int(((columns - x) ** 2 + (rows - y) ** 2).argmin())
    return float(columns[nearest]), float(rows[nearest])


def _only(masks: MaskRecording, order: list[int]) -> MaskRecording:
    return MaskRecording(masks.attention[order], [step[order] for step in masks.steps], masks.logits[order])


def won_and_lost(explanation: Explanation) -> list[Won]:
    """For each explained query what its mask became in the panoptic map.

    A segment of stuff may be of several queries; each of its pixels counts for the one with the highest logit.

    Raises:
        ValueError: the model has no mask head.
    """
    if explanation.masks is None or explanation.panoptic is None:
        raise ValueError("the model predicts boxes only: there is no panoptic map.")
    ids, _ = explanation.panoptic
    logits = upsample_masks(explanation.masks.logits, explanation.sizes).cpu().numpy()
    found = []
    for number, query in enumerate(explanation.queries):
        members = [i for i, other in enumerate(explanation.queries) if other.segment == query.segment]
        decided = np.zeros(ids.shape, bool)
        if query.segment:
            decided = (ids == query.segment) & (logits[number] >= logits[members].max(0))
        other = query.region & (ids != query.segment) if query.segment else query.region
        found.append(Won(int(query.region.sum()), int(decided.sum()), int(other.sum()), decided, other))
    return found
