"""From predictions to results: which queries are kept, the panoptic map and its segments, and instances.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", section 4.2; here stuff of one class is
merged before small segments are dropped, so that no stuff class appears twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VOID = 0

Size = tuple[int, int]
"""Height and width."""


class Sizes(NamedTuple):
    """The three sizes of an image.

    Args:
        padded: of the batch's tensor, in which the image is padded on the right and at the bottom.
        image: of the image in it.
        output: of the original image, which results have.
    """

    padded: Size
    image: Size
    output: Size

    @property
    def padding(self) -> tuple[float, float]:
        """How many times higher and wider than the image the padded tensor is."""
        return self.padded[0] / self.image[0], self.padded[1] / self.image[1]


class PostProcess(nn.Module):
    """The functions below with a model's thresholds.

    Args:
        is_thing: for each class.
        score_threshold: of the panoptic map's segments.
        class_score_thresholds: one for each class, instead; empty: none.
        overlap_threshold, min_segment_area: see :func:`panoptic_map`.
        instance_score_threshold: of the instances.

    Raises:
        ValueError: another number of ``class_score_thresholds`` than of classes.
    """

    is_thing: Tensor
    class_score_thresholds: Tensor

    def __init__(
        self,
        is_thing: Sequence[bool],
        score_threshold: float = 0.85,
        class_score_thresholds: Sequence[float] = (),
        overlap_threshold: float = 0.0,
        min_segment_area: int = 4,
        instance_score_threshold: float = 0.05,
    ) -> None:
        super().__init__()
        if len(class_score_thresholds) not in (0, len(is_thing)):
            raise ValueError(
                f"class_score_thresholds has {len(class_score_thresholds)} numbers for {len(is_thing)} classes; give "
                "one for each class, or none for score_threshold."
            )
        self.register_buffer("is_thing", torch.tensor(is_thing, dtype=torch.bool), persistent=False)
        limits = torch.tensor(list(class_score_thresholds), dtype=torch.float32)
        self.register_buffer("class_score_thresholds", limits, persistent=False)
        self.score_threshold, self.instance_score_threshold = score_threshold, instance_score_threshold
        self.overlap_threshold, self.min_segment_area = overlap_threshold, min_segment_area

    def score_thresholds(self) -> Tensor:
        """(K,) of the panoptic map's segments."""
        if len(self.class_score_thresholds):
            return self.class_score_thresholds
        return torch.full(self.is_thing.shape, self.score_threshold, device=self.is_thing.device)

    def segments(self, pred_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(Q, K+1) of one image to query_index, scores and classes (N,) of the panoptic map's queries."""
        _, query_index, scores, classes = kept_queries(pred_logits[None], self.score_thresholds())
        return query_index, scores, classes

    def instances(self, pred_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(Q, K+1) of one image to query_index, scores and classes (N,) of the instances, highest score first."""
        return instance_queries(pred_logits, self.is_thing, self.instance_score_threshold)

    def panoptic(
        self, mask_logits: Tensor, scores: Tensor, classes: Tensor, sizes: Sizes
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """See :func:`panoptic_map`."""
        thresholds = (self.min_segment_area, self.overlap_threshold)
        return panoptic_map(mask_logits, scores, classes, self.is_thing, sizes, *thresholds)


def kept_queries(pred_logits: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The queries that are segments: their best class isn't no-object and its probability is above the threshold.

    Args:
        pred_logits: (B, Q, K+1).
        threshold: probability, 0 to 1; or (K,), one for each class.

    Returns:
        batch_index and query_index (N,) int64, in rising order; scores (N,); and classes (N,) int64.
    """
    scores, classes = pred_logits.float().softmax(-1).max(-1)
    no_object = pred_logits.shape[-1] - 1
    limit = threshold[classes.clamp(max=no_object - 1)] if isinstance(threshold, Tensor) else threshold
    batch_index, query_index = ((classes != no_object) & (scores > limit)).nonzero().unbind(1)
    return batch_index, query_index, scores[batch_index, query_index], classes[batch_index, query_index]


def instance_queries(pred_logits: Tensor, is_thing: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The queries that are instances: their best class, no-object aside, is a thing and likely enough.

    Args:
        pred_logits: (Q, K+1) of one image.
        is_thing: (K,) bool.
        threshold: probability, 0 to 1.

    Returns:
        query_index (N,) int64, highest score first; scores (N,); and classes (N,) int64.
    """
    scores, classes = pred_logits.float().softmax(-1)[:, :-1].max(-1)
    query_index = (is_thing[classes] & (scores > threshold)).nonzero()[:, 0]
    query_index = query_index[scores[query_index].argsort(descending=True, stable=True)]
    return query_index, scores[query_index], classes[query_index]


@torch.no_grad()
def panoptic_map(
    mask_logits: Tensor,
    scores: Tensor,
    classes: Tensor,
    is_thing: Tensor,
    sizes: Sizes,
    min_area: int = 4,
    overlap_threshold: float = 0.0,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Give each pixel to the segment with the highest logit; merge stuff of one class; drop what is too small.

    Args:
        mask_logits: (N, h, w) of an image's kept queries, at stride 4 of the padded tensor.
        scores: (N,) class probabilities.
        classes: (N,) contiguous class ids.
        is_thing: (K,) bool.
        sizes: of the image; the map has the original one's.
        min_area: a segment with fewer pixels in the map is dropped, and its pixels go to the next best, until none is.
        overlap_threshold: a query of whose mask (logits above 0) a smaller part is seen is dropped in the same way, of
            those that share pixels the one with the lowest score first; 0: none is.

    Returns:
        The map (H, W) int32, where 0 is void, and its segments, in the map's id order 1, 2, …: id, isthing, category_id
        (contiguous), score (of a merged stuff segment: the highest), area, and "queries", the places among the N of
        those that it is made of. Ids, areas and map agree.
    """
    alive = torch.arange(len(classes), device=classes.device)
    pixels = _pixels_of_each(sizes.image, sizes.output, classes.device)
    while len(alive):
        group = _merge_stuff(classes[alive], is_thing)
        segment = group[_owners(mask_logits[alive], sizes)]
        area = torch.bincount(segment.flatten(), pixels, minlength=len(alive)).long()
        dropped = area[group] < min_area
        if overlap_threshold > 0 and not bool(dropped.any()):
            hidden = _seen_parts(mask_logits[alive], segment, group, sizes) < overlap_threshold
            dropped = _lowest_scores(hidden, scores[alive], mask_logits[alive])
        if not bool(dropped.any()):
            new_id, segments_info = _number_segments(area, group, alive, scores, classes, is_thing)
            return resize_nearest(new_id[segment], sizes.output), segments_info
        alive = alive[~dropped]
    return torch.full(sizes.output, VOID, dtype=torch.int32, device=classes.device), []


@torch.no_grad()
def instance_masks(mask_logits: Tensor, sizes: Sizes) -> Tensor:
    """Masks of single queries, which may overlap; one at a time, to keep the floats few.

    Args:
        mask_logits: (N, h, w) at stride 4 of the padded tensor.
        sizes: of the image.

    Returns:
        (N, H, W) bool of the original image's size.
    """
    masks = torch.zeros(len(mask_logits), *sizes.output, dtype=torch.bool, device=mask_logits.device)
    for i in range(len(masks)):
        inside = upsample_masks(mask_logits[i : i + 1], sizes)[0] > 0
        masks[i] = resize_nearest(inside, sizes.output)
    return masks


def upsample_masks(mask_logits: Tensor, sizes: Sizes) -> Tensor:
    """(N, h, w) mask logits at stride 4 of the padded tensor to (N, H, W), the unpadded image at network size."""
    large = F.interpolate(mask_logits[:, None].float(), size=sizes.padded, mode="bilinear", align_corners=False)
    return large[:, 0, : sizes.image[0], : sizes.image[1]]


def resize_nearest(values: Tensor, size: Size) -> Tensor:
    """(H, W) of any type to another size, by nearest neighbour, without a copy as floats."""
    if values.shape == size:
        return values
    rows = _nearest(values.shape[0], size[0], values.device)
    return values[rows][:, _nearest(values.shape[1], size[1], values.device)]


def _merge_stuff(classes: Tensor, is_thing: Tensor) -> Tensor:
    """(N,) for each query the first query of its segment: itself for things, the first of its class for stuff."""
    same = (classes[:, None] == classes[None]) & ~is_thing[classes][:, None]
    same.fill_diagonal_(1)  # a tracer knows no fill with a bool
    return same.int().argmax(1)


def _owners(mask_logits: Tensor, sizes: Sizes) -> Tensor:
    """(H, W) int32 at network size: the mask with the highest logit at each pixel, first one wins ties.

    One mask at a time, so that there never is a stack of full-size masks in memory.
    """
    owner = torch.zeros(sizes.image, dtype=torch.int32, device=mask_logits.device)
    best = owner.new_full(sizes.image, float("-inf"), dtype=torch.float32)
    for i in range(len(mask_logits)):
        mask = upsample_masks(mask_logits[i : i + 1], sizes)[0]
        owner.masked_fill_(mask > best, i)
        best = torch.maximum(best, mask)
    return owner


def _seen_parts(mask_logits: Tensor, segment: Tensor, group: Tensor, sizes: Sizes) -> Tensor:
    """(N,) part of each query's own mask that its segment has in the map (H, W); 0 where the mask is empty."""
    parts = mask_logits.new_zeros(len(group), dtype=torch.float32)
    for i in range(len(group)):
        mask = upsample_masks(mask_logits[i : i + 1], sizes)[0] > 0
        parts[i] = (mask & (segment == group[i])).sum() / mask.sum().clamp(min=1)
    return parts


def _lowest_scores(candidates: Tensor, scores: Tensor, mask_logits: Tensor) -> Tensor:
    """Of the candidates (N,) bool those to drop at once: from the lowest score on, each that touches none of them.

    Two queries that cut a thing up between them hide each other; with one of them gone the other has all of it.
    """
    dropped = torch.zeros_like(candidates)
    inside = mask_logits > 0
    gone = torch.zeros_like(inside[0])
    for i in scores.argsort().tolist():
        if candidates[i] and not bool((inside[i] & gone).any()):
            dropped[i] = True
            gone |= inside[i]
    return dropped


def _nearest(length: int, new_length: int, device: torch.device) -> Tensor:
    """(new_length,) int64: which of ``length`` places each new place takes its value from."""
    places = torch.arange(length, dtype=torch.float32, device=device)
    return F.interpolate(places[None, None], size=new_length, mode="nearest")[0, 0].long()


def _pixels_of_each(size: Size, new_size: Size, device: torch.device) -> Tensor | None:
    """(H * W,) how many pixels of the new size each of ``size`` becomes; None: one each.

    So areas are counted at network size, and only the finished map is made as large as the original image.
    """
    if size == new_size:
        return None
    rows, columns = (
        torch.bincount(_nearest(length, new_length, device), minlength=length).double()
        for length, new_length in zip(size, new_size, strict=True)
    )
    return (rows[:, None] * columns).flatten()


def _number_segments(
    area: Tensor, group: Tensor, alive: Tensor, scores: Tensor, classes: Tensor, is_thing: Tensor
) -> tuple[Tensor, list[dict[str, Any]]]:
    """(N,) int32, the ids 1, 2, … of the alive queries that are segments, and each segment in words."""
    new_id = torch.zeros(len(alive), dtype=torch.int32, device=classes.device)
    segments_info: list[dict[str, Any]] = []
    for query in group.unique().tolist():
        new_id[query] = len(segments_info) + 1
        members = alive[group == query]
        category = int(classes[members[0]])
        segments_info.append(
            {
                "id": len(segments_info) + 1,
                "isthing": bool(is_thing[category]),
                "category_id": category,
                "score": float(scores[members].max()),
                "area": int(area[query]),
                "queries": members.tolist(),
            }
        )
    return new_id, segments_info
