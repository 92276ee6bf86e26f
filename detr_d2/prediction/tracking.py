"""Ids that stay with an object through a video, by the IoU of masks from frame to frame.

Source: the assignment of tracks and detections is that of Bewley et al. 2016, "Simple Online and Realtime Tracking",
section 3, with masks, where they were and moved on by their last step, in place of boxes and a Kalman filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from scipy.ndimage import find_objects
from scipy.optimize import linear_sum_assignment

from detr_d2.data.segments import number_segments
from detr_d2.prediction.tiling import Segmented

#: An object that isn't seen for so many frames is remembered: a second at the rate of most videos.
MEMORY = 30
#: A segment that is less like where an object should be isn't that object; see :func:`track`.
MIN_SIMILARITY = 0.1
#: What the part of the smaller mask counts beside the IoU, for objects that come out from behind others.
_PART_WEIGHT = 0.3


@dataclass
class _Track:
    """A thing that was seen.

    Attributes:
        category_id: of it.
        mask: (h, w) bool, its pixels when it was last seen, within their box.
        corner: (2,) row and column of that box.
        step: (2,) how far it last moved in a frame.
        gone: for how many frames it wasn't seen.
    """

    category_id: int
    mask: np.ndarray
    corner: np.ndarray
    step: np.ndarray
    gone: int = 0


def track(
    frames: Iterable[Segmented], memory: int = MEMORY, min_similarity: float = MIN_SIMILARITY
) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    """Give the segments of a video's frames ids that stay the same through the video.

    Stuff of a class has one id. A thing gets the id of the object of its class that it is most like, for all things of
    a frame together (Hungarian method). How alike they are is 0.7 IoU + 0.3 intersection over the smaller one, of its
    mask and the object's last one, where that was or moved on as the object last moved, whichever fits better. What is
    kept is the masks of objects seen in the last ``memory`` frames, so that a video may be of any length.

    Args:
        frames: for each frame a map of ids (H, W), 0 is void, and its segments: id, category_id, isthing.
        memory: an object that is gone for more frames than this gets a new id when it comes back.
        min_similarity: 0 to 1, of a segment that is taken for an object that is known.

    Yields:
        For each frame the map (H, W) int32 and the segments with the new ids, in the order given.
    """
    tracks: dict[int, _Track] = {}
    stuff: dict[int, int] = {}
    unused = count(1)
    for ids, segments in frames:
        numbers = number_segments(ids, [int(segment["id"]) for segment in segments], "a frame")
        new_ids = _known_ids(numbers, segments, tracks, min_similarity)
        for place, segment in enumerate(segments):
            if not segment["isthing"] and segment["category_id"] not in stuff:
                stuff[segment["category_id"]] = next(unused)
            if new_ids[place] == 0:
                new_ids[place] = next(unused) if segment["isthing"] else stuff[segment["category_id"]]
        _remember(tracks, numbers, segments, new_ids, memory)
        renamed = [{**segment, "id": new_id} for segment, new_id in zip(segments, new_ids)]
        yield np.array([0, *new_ids], np.int32)[numbers], renamed


def _known_ids(
    numbers: np.ndarray, segments: Sequence[Mapping[str, Any]], tracks: Mapping[int, _Track], min_similarity: float
) -> list[int]:
    """For each segment the id of the object that it is, or 0."""
    areas = np.bincount(numbers.ravel(), minlength=len(segments) + 1)[1:]
    classes = [segment["category_id"] if segment["isthing"] else None for segment in segments]
    alike = np.zeros((len(tracks), len(segments)))
    for row, known in enumerate(tracks.values()):
        is_candidate = np.array([category == known.category_id for category in classes], bool)
        for corner in (known.corner, known.corner + known.step * (known.gone + 1)):
            alike[row] = np.maximum(alike[row], is_candidate * _similarities(known.mask, corner, numbers, areas))
    alike[alike < min_similarity] = 0
    found, track_ids = [0] * len(segments), list(tracks)
    for row, column in zip(*linear_sum_assignment(alike, maximize=True)):
        if alike[row, column] > 0:
            found[column] = track_ids[row]
    return found


def _similarities(mask: np.ndarray, corner: np.ndarray, numbers: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """(N,) how much each segment of ``numbers`` is like a mask whose box has its upper left corner there, 0 to 1."""
    corner = np.rint(corner).astype(int)
    first, end = np.maximum(corner, 0), np.minimum(corner + mask.shape, numbers.shape)
    if (first >= end).any():
        return np.zeros(len(areas))
    rows, columns = (slice(start, stop) for start, stop in zip(first, end))
    inner_rows, inner_columns = (slice(start, stop) for start, stop in zip(first - corner, end - corner))
    under = numbers[rows, columns][mask[inner_rows, inner_columns]]
    shared = np.bincount(under, minlength=len(areas) + 1)[1:]
    iou = shared / np.maximum(under.size + areas - shared, 1)
    part = shared / np.maximum(np.minimum(under.size, areas), 1)
    return (1 - _PART_WEIGHT) * iou + _PART_WEIGHT * part


def _remember(
    tracks: dict[int, _Track],
    numbers: np.ndarray,
    segments: Sequence[Mapping[str, Any]],
    new_ids: Sequence[int],
    memory: int,
) -> None:
    """Bring the tracks up to this frame, in place."""
    for track_ in tracks.values():
        track_.gone += 1
    boxes = find_objects(numbers, max_label=len(segments))
    for number, (segment, new_id, box) in enumerate(zip(segments, new_ids, boxes), 1):
        if not segment["isthing"] or box is None:
            continue
        mask = numbers[box] == number
        corner = np.array([box[0].start, box[1].start], float)
        step = np.zeros(2)
        if new_id in tracks:
            before = tracks[new_id]
            step = (_centre(mask, corner) - _centre(before.mask, before.corner)) / before.gone
        tracks[new_id] = _Track(segment["category_id"], mask, corner, step)
    for new_id in [new_id for new_id, track_ in tracks.items() if track_.gone > memory]:
        del tracks[new_id]


def _centre(mask: np.ndarray, corner: np.ndarray) -> np.ndarray:
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    return corner + ((rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2)
