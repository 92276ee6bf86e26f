"""Video panoptic quality: panoptic quality of tubes, which are a segment's pixels over some frames, and id switches.

Source: Kim et al. 2020, "Video Panoptic Segmentation", section 4. Each window of k frames counts as one image in which
the frames stand side by side, so that matching, void and crowds follow the same rules.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from detr_d2.data.categories import Category
from detr_d2.evaluation.matching import ComparedImage, Segment, compare_maps
from detr_d2.evaluation.overlaps import VOID, Overlaps
from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality
from detr_d2.evaluation.results import group_means

#: (H, W) integers, the segment id of each pixel, 0 is void; and the segments with "id" and "category_id" (dataset id).
FrameLabels = tuple[np.ndarray, Sequence[Segment]]


@dataclass(frozen=True)
class VideoQuality:
    """How well segments were found and followed through a video.

    Args:
        vpq: for each window, in frames, the means over "All", "Things" and "Stuff", as parts of 1.
        id_switches: how often a thing's matched prediction has another id than where it was last matched.
        thing_matches: matches of things, added up over all frames; each but a thing's first could be a switch.
        frames: of the video.
    """

    vpq: dict[int, dict[str, Quality]]
    id_switches: int
    thing_matches: int
    frames: int

    def mean(self, group: str = "All") -> float:
        """VPQ of "All", "Things" or "Stuff": the mean over the windows, as a part of 1."""
        return float(np.mean([means[group].pq for means in self.vpq.values()]))


class _Tube(NamedTuple):
    """What makes segments of several frames one: a thing has its id, stuff is one tube a class."""

    id: int
    label: int
    is_crowd: bool


class _Frame(NamedTuple):
    image: ComparedImage
    true_tubes: dict[int, _Tube | None]  # by the segment's id in this frame; None is void
    predicted_tubes: dict[int, _Tube | None]


def video_quality(
    ground_truth: Iterable[FrameLabels],
    predictions: Iterable[FrameLabels],
    categories: Sequence[Category],
    windows: Sequence[int] = (1, 5, 10, 15),
) -> VideoQuality:
    """Video panoptic quality of one video, frame by frame; of the frames the longest window's counts are kept, no maps.

    Args:
        ground_truth, predictions: each frame's labels, in order; "iscrowd" of the ground truth is respected.
        categories: those that the segments' "category_id" may have.
        windows: lengths in frames. 1 is panoptic quality of the frames. A video of fewer frames is one window.

    Raises:
        ValueError: the videos differ in length; a frame's maps differ in size, or contradict their segments.
    """
    labels = {category.id: label for label, category in enumerate(categories)}
    is_thing = [category.is_thing for category in categories]
    qualities = {length: PanopticQuality(len(labels), keep_images=False) for length in windows}
    recent: deque[_Frame] = deque(maxlen=max(windows))
    last_match: dict[int, int] = {}
    switches = matches = number = 0
    for number, frame in enumerate(_frames(ground_truth, predictions, labels, is_thing), 1):
        recent.append(frame)
        for length, quality in qualities.items():
            if number >= length:
                quality.add(_side_by_side([*recent][-length:]).counts().values())
        for predicted_id, (true_id, _) in frame.image.matching.matches.items():
            if is_thing[frame.image.true_class[true_id]]:
                switches += last_match.get(true_id, predicted_id) != predicted_id
                matches += 1
                last_match[true_id] = predicted_id
    for length, quality in qualities.items():
        if 0 < number < length:
            quality.add(_side_by_side([*recent]).counts().values())
    vpq = {length: group_means(quality, is_thing) for length, quality in qualities.items()}
    return VideoQuality(vpq, switches, matches, number)


def _frames(
    ground_truth: Iterable[FrameLabels], predictions: Iterable[FrameLabels], labels: dict[int, int], things: list[bool]
) -> Iterator[_Frame]:
    for number, (true, predicted) in enumerate(zip_longest(ground_truth, predictions)):
        if true is None or predicted is None:
            longer = "the prediction" if true is None else "the ground truth"
            raise ValueError(
                f"{longer} has more than {number} frames, the other has {number}; compare the same frames."
            )
        true_segments, predicted_segments = (_contiguous(part[1], labels, number) for part in (true, predicted))
        try:
            image = compare_maps(true[0], true_segments, predicted[0], predicted_segments, len(labels))
        except ValueError as error:
            raise ValueError(f"frame {number}: {error}") from error
        if differing := sorted((image.overlaps.true_areas.keys() - {VOID}) ^ {one["id"] for one in true_segments}):
            raise ValueError(f"frame {number}: only the ground truth's map or only its segments have ids {differing}.")
        yield _Frame(image, _tubes(true_segments, things), _tubes(predicted_segments, things))


def _contiguous(segments: Sequence[Segment], labels: dict[int, int], frame: int) -> list[Segment]:
    """The segments with contiguous classes."""
    if unknown := sorted({one["category_id"] for one in segments} - labels.keys()):
        raise ValueError(f"frame {frame}: category ids {unknown} are unknown; allowed are {sorted(labels)}.")
    return [{**one, "category_id": labels[one["category_id"]]} for one in segments]


def _tubes(segments: Sequence[Segment], is_thing: Sequence[bool]) -> dict[int, _Tube | None]:
    tubes: dict[int, _Tube | None] = {VOID: None}
    for one in segments:
        label = one["category_id"]
        tubes[one["id"]] = _Tube(one["id"] if is_thing[label] else VOID, label, bool(one.get("iscrowd")))
    return tubes


def _side_by_side(frames: Sequence[_Frame]) -> ComparedImage:
    """Frames as one image whose segments are the tubes."""
    true = _numbers(frame.true_tubes for frame in frames)
    predicted = _numbers(frame.predicted_tubes for frame in frames)
    pixels: Counter[tuple[int, int]] = Counter()
    for image, true_tubes, predicted_tubes in frames:
        for (true_id, predicted_id), count in image.overlaps.pairs.items():
            pixels[true[true_tubes[true_id]], predicted[predicted_tubes[predicted_id]]] += count
    return ComparedImage(
        Overlaps.of_pairs((*pair, pixels[pair]) for pair in sorted(pixels)), _segments(true), _segments(predicted)
    )


def _numbers(frames: Iterable[dict[int, _Tube | None]]) -> dict[_Tube | None, int]:
    """Tubes numbered by the lowest id that each has, so that sums are made in the order of the ids; void is 0."""
    lowest: dict[_Tube | None, int] = {}
    for tubes in frames:
        for segment_id, tube in tubes.items():
            lowest[tube] = min(segment_id, lowest.get(tube, segment_id))
    return {tube: number for number, tube in enumerate(sorted(lowest, key=lowest.__getitem__))}


def _segments(tubes: dict[_Tube | None, int]) -> list[Segment]:
    return [
        {"id": number, "category_id": tube.label, "iscrowd": tube.is_crowd} for tube, number in tubes.items() if tube
    ]
