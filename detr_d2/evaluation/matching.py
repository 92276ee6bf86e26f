"""Which segments of an image belong together: the rules of panoptic quality, which all that counts segments shares.

Source: Kirillov et al. 2019, "Panoptic Segmentation", section 4. Void, crowds and the order of matches as in COCO's
panopticapi, so that the numbers are the same to the last digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from detr_d2.evaluation.overlaps import VOID, Overlaps, RunMap

Segment = Mapping[str, Any]
#: A pair of one class with an IoU above this is a match; only one such pair is possible.
MATCH_IOU = 0.5


class Count(NamedTuple):
    """What a segment, or the fix of a mistake, adds to the counts of a class.

    Args:
        label: the class.
        iou: added to the sum of IoU.
        true_positives, false_positives, false_negatives: added to them.
    """

    label: int
    iou: float = 0.0
    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0


class Matching(NamedTuple):
    """Which segments of an image belong together, by their ids.

    Args:
        matches: true id and IoU of each predicted segment that is right, in the order of the true ids.
        wrong: predicted segments that match none and count.
        ignored: predicted segments that match none and don't count, being void or crowd for more than half.
        missed: true segments that none matches.
    """

    matches: dict[int, tuple[int, float]]
    wrong: tuple[int, ...]
    ignored: tuple[int, ...]
    missed: tuple[int, ...]


class ComparedImage:
    """The segments of an image, true and predicted, and how they overlap.

    Args:
        overlaps: of the true and the predicted map.
        true_segments: each with "id", "category_id" (contiguous) and perhaps "iscrowd".
        predicted_segments: each with "id" and "category_id"; the same ids as the predicted map's.
    """

    def __init__(
        self, overlaps: Overlaps, true_segments: Sequence[Segment], predicted_segments: Sequence[Segment]
    ) -> None:
        self.overlaps = overlaps
        self.true_class = {s["id"]: s["category_id"] for s in true_segments if not s.get("iscrowd")}
        self.crowd_class = {s["id"]: s["category_id"] for s in true_segments if s.get("iscrowd")}
        self.predicted_class = {s["id"]: s["category_id"] for s in predicted_segments}

    @cached_property
    def matching(self) -> Matching:
        """By class and an IoU above 0.5."""
        return self.match()

    def match(self, boundaries: Overlaps | None = None) -> Matching:
        """By class and an IoU above 0.5.

        Args:
            boundaries: overlaps of the segments' boundaries; IoU is the smaller one of segments and boundaries then.
        """
        matches = {}
        for true_id, predicted_id in self.overlaps.pairs:
            label = self.true_class.get(true_id)
            if label is None or label != self.predicted_class.get(predicted_id):
                continue
            iou = self.overlaps.iou(true_id, predicted_id)
            if iou > MATCH_IOU and boundaries is not None:
                iou = min(iou, boundaries.iou(true_id, predicted_id))
            if iou > MATCH_IOU:
                matches[predicted_id] = true_id, iou
        unmatched = self.predicted_class.keys() - matches.keys()
        ignored = {i for i in unmatched if self._is_ignored(i)}
        missed = self.true_class.keys() - {true_id for true_id, _ in matches.values()}
        return Matching(matches, tuple(unmatched - ignored), tuple(ignored), tuple(missed))

    def counts(self, matching: Matching | None = None) -> dict[int, Count]:
        """What each segment that counts adds to panoptic quality.

        Args:
            matching: another than by the segments' own IoU.

        Returns:
            By id: matches and missed segments by that of the true one, wrong ones by theirs, which is made negative.
        """
        found = self.matching if matching is None else matching
        counts = {i: Count(self.true_class[i], iou, true_positives=1) for i, iou in found.matches.values()}
        counts |= {-i: Count(self.predicted_class[i], false_positives=1) for i in found.wrong}
        return counts | {i: Count(self.true_class[i], false_negatives=1) for i in found.missed}

    def area(self, segment_id: int) -> int:
        """Pixels of a segment, by an id of :meth:`counts`."""
        areas = self.overlaps.true_areas if segment_id > 0 else self.overlaps.predicted_areas
        return areas[abs(segment_id)]

    def _is_ignored(self, predicted_id: int) -> bool:
        """More than half of a predicted segment is void, or void and crowd of its class.

        Of several crowds of a class only the last counts, as in panopticapi.
        """
        label = self.predicted_class[predicted_id]
        crowd_id = next((i for i in reversed(self.crowd_class) if self.crowd_class[i] == label), -1)
        ignored = self.overlaps.pixels(VOID, predicted_id) + self.overlaps.pixels(crowd_id, predicted_id)
        return ignored / self.overlaps.predicted_areas[predicted_id] > 0.5


def compare_maps(
    true_map: np.ndarray | RunMap,
    true_segments: Sequence[Segment],
    predicted_map: np.ndarray,
    predicted_segments: Sequence[Segment],
    num_classes: int,
) -> ComparedImage:
    """A true and a predicted map that fit together.

    Args:
        true_map, predicted_map: (H, W) integers, the segment id of each pixel, 0 is void.
        true_segments, predicted_segments: see :class:`ComparedImage`.
        num_classes: classes are below it.

    Raises:
        ValueError: the maps' sizes differ, or the prediction's ids in map and segments do, or a class is unknown.
    """
    if true_map.shape != predicted_map.shape:
        predicted_size, true_size = (" x ".join(map(str, each.shape)) for each in (predicted_map, true_map))
        raise ValueError(
            f"the predicted map is {predicted_size}, the true one {true_size} (height x width); predict at the size of "
            "the original image."
        )
    image = ComparedImage(Overlaps(true_map, predicted_map), true_segments, predicted_segments)
    in_map, listed = image.overlaps.predicted_areas.keys() - {VOID}, image.predicted_class
    unknown = sorted({label for label in listed.values() if not 0 <= label < num_classes})
    if in_map != listed.keys() or unknown:
        raise ValueError(
            f"a predicted panoptic map contradicts its segments_info: ids only in the map "
            f"{sorted(in_map - listed.keys())}, only in segments_info {sorted(listed.keys() - in_map)} (0 is void), "
            f"classes outside of 0 ... {num_classes - 1} {unknown}."
        )
    return image
