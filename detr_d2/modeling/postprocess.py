"""From a picture's kept queries to one panoptic map and its segments.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers", section 4.2; here stuff of one class is
merged before small segments are dropped, so that no stuff class appears twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

VOID = 0


def kept_queries(pred_logits: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The queries that are segments: their best class isn't no-object and its probability is above the threshold.

    Args:
        pred_logits: (Q, K+1) of one picture.
        threshold: probability, 0 to 1; or (K,), one for each class.

    Returns:
        query_index (N,) int64 in rising order, scores (N,) and classes (N,) int64.
    """
    scores, classes = pred_logits.float().softmax(-1).max(-1)
    no_object = pred_logits.shape[-1] - 1
    limit = threshold[classes.clamp(max=no_object - 1)] if isinstance(threshold, Tensor) else threshold
    kept = ((classes != no_object) & (scores > limit)).nonzero()[:, 0]
    return kept, scores[kept], classes[kept]


def class_limits(thresholds: Sequence[float], num_classes: int) -> Tensor:
    """(K,) thresholds for :func:`kept_queries`, or (0,) for none.

    Raises:
        ValueError: their number is another.
    """
    if len(thresholds) not in (0, num_classes):
        raise ValueError(
            f"MODEL.DETR.CLASS_SCORE_THRESHOLDS has {len(thresholds)} numbers for {num_classes} classes; give one for "
            "each class, or [] for MODEL.DETR.SCORE_THRESHOLD."
        )
    return torch.tensor(list(thresholds), dtype=torch.float32)


def upsample_mask(logits: Tensor, padded_size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """(N, h, w) mask logits at stride 4 of the padded tensor to (N, H, W), the unpadded picture at network size."""
    large = F.interpolate(logits[:, None].float(), size=padded_size, mode="bilinear", align_corners=False)
    return large[:, 0, : image_size[0], : image_size[1]]


@torch.no_grad()
def panoptic_map(
    mask_logits: Tensor,
    scores: Tensor,
    classes: Tensor,
    is_thing: Tensor,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    min_area: int = 4,
    overlap_threshold: float = 0.0,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Give each pixel to the segment with the highest logit; merge stuff of one class; drop what is too small.

    Args:
        mask_logits: (N, h, w) of the kept queries, at stride 4 of the padded tensor.
        scores: (N,) class probabilities.
        classes: (N,) contiguous class ids.
        is_thing: (K,) bool.
        padded_size: height and width of the batch's tensor.
        image_size: of the unpadded picture in it.
        output_size: of the original picture, which the map has.
        min_area: a segment with fewer pixels in the map is dropped and its pixels go to the next best; repeated until
            none is left.
        overlap_threshold: a query of whose mask (logits above 0) a smaller part is seen is dropped in the same way, of
            those that share pixels the least sure one first; 0: none is.

    Returns:
        The map (H, W) int32, where 0 is void, and its segments, in the map's id order 1, 2, …: id, isthing, category_id
        (contiguous), score (of a merged stuff segment: the highest) and area. Ids, areas and map agree.
    """
    alive = torch.arange(len(classes), device=classes.device)
    pixels = _pixels_of_each(image_size, output_size, classes.device)
    while len(alive):
        group = _merge_stuff(classes[alive], is_thing)
        segment = group[_owners(mask_logits[alive], padded_size, image_size)]
        area = torch.bincount(segment.flatten(), pixels, minlength=len(alive)).long()
        dropped = area[group] < min_area
        if overlap_threshold > 0 and not bool(dropped.any()):
            hidden = _seen_parts(mask_logits[alive], segment, group, padded_size) < overlap_threshold
            dropped = _weakest(hidden, scores[alive], mask_logits[alive])
        if not bool(dropped.any()):
            new_id, segments_info = _number_segments(area, group, scores[alive], classes[alive], is_thing)
            return resize_nearest(new_id[segment], output_size), segments_info
        alive = alive[~dropped]
    return torch.full(output_size, VOID, dtype=torch.int32, device=classes.device), []


@torch.no_grad()
def instance_masks(
    logits: Tensor,
    chosen: Tensor,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
) -> Tensor:
    """Masks of single queries, which may overlap; one at a time, to keep the floats few.

    Args:
        logits: (N, h, w) at stride 4 of the padded tensor.
        chosen: (M,) int64, which of them; the sizes are those of :func:`panoptic_map`.

    Returns:
        (M, H, W) bool of the original picture's size.
    """
    masks = torch.zeros(len(chosen), *output_size, dtype=torch.bool, device=logits.device)
    for i, mask in enumerate(chosen.tolist()):
        inside = upsample_mask(logits[mask : mask + 1], padded_size, image_size) > 0
        masks[i] = resize_nearest(inside[0], output_size)
    return masks


def _merge_stuff(classes: Tensor, is_thing: Tensor) -> Tensor:
    """(N,) for each query the first query of its segment: itself for things, the first of its class for stuff."""
    same = (classes[:, None] == classes[None]) & ~is_thing[classes][:, None]
    same.fill_diagonal_(1)  # a tracer knows no fill with a bool
    return same.int().argmax(1)


def _owners(mask_logits: Tensor, padded_size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """(H, W) int32 at network size: the mask with the highest logit at each pixel, first one wins ties.

    One mask at a time, so that there never is a stack of full-size masks in memory.
    """
    owner = torch.zeros(image_size, dtype=torch.int32, device=mask_logits.device)
    best = owner.new_full(image_size, float("-inf"), dtype=torch.float32)
    for i in range(len(mask_logits)):
        mask = upsample_mask(mask_logits[i : i + 1], padded_size, image_size)[0]
        owner.masked_fill_(mask > best, i)
        best = torch.maximum(best, mask)
    return owner


def _seen_parts(mask_logits: Tensor, segment: Tensor, group: Tensor, padded_size: tuple[int, int]) -> Tensor:
    """(N,) part of each query's own mask that its segment has in the map (H, W); 0 where the mask is empty."""
    parts = mask_logits.new_zeros(len(group), dtype=torch.float32)
    for i in range(len(group)):
        mask = upsample_mask(mask_logits[i : i + 1], padded_size, (segment.shape[0], segment.shape[1]))[0] > 0
        parts[i] = (mask & (segment == group[i])).sum() / mask.sum().clamp(min=1)
    return parts


def _weakest(candidates: Tensor, scores: Tensor, mask_logits: Tensor) -> Tensor:
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


def resize_nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) of any type to another size, by nearest neighbour, without a copy as floats."""
    if values.shape == size:
        return values
    rows = _nearest(values.shape[0], size[0], values.device)
    return values[rows][:, _nearest(values.shape[1], size[1], values.device)]


def _nearest(length: int, new_length: int, device: torch.device) -> Tensor:
    """(new_length,) int64: which of ``length`` places each new place takes its value from."""
    places = torch.arange(length, dtype=torch.float32, device=device)
    return F.interpolate(places[None, None], size=new_length, mode="nearest")[0, 0].long()


def _pixels_of_each(size: tuple[int, int], new_size: tuple[int, int], device: torch.device) -> Tensor | None:
    """(H * W,) how many pixels of the new size each of ``size`` becomes; None: one each.

    So areas are counted at network size, and only the finished map is made as large as the original picture.
    """
    if size == new_size:
        return None
    rows, columns = (
        torch.bincount(_nearest(length, new_length, device), minlength=length).double()
        for length, new_length in zip(size, new_size, strict=True)
    )
    return (rows[:, None] * columns).flatten()


def _number_segments(
    area: Tensor, group: Tensor, scores: Tensor, classes: Tensor, is_thing: Tensor
) -> tuple[Tensor, list[dict[str, Any]]]:
    """(N,) int32, the ids 1, 2, … of the queries that are segments, and each segment in words."""
    new_id = torch.zeros(len(classes), dtype=torch.int32, device=classes.device)
    segments_info: list[dict[str, Any]] = []
    for query in group.unique().tolist():
        new_id[query] = len(segments_info) + 1
        category = int(classes[query])
        segments_info.append(
            {
                "id": len(segments_info) + 1,
                "isthing": bool(is_thing[category]),
                "category_id": category,
                "score": float(scores[group == query].max()),
                "area": int(area[query]),
            }
        )
    return new_id, segments_info
