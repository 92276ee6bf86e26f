"""What the images of an evaluation hold, and how often predicted segments are right, by their score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detr_d2.evaluation.matching import ComparedImage
from detr_d2.evaluation.overlaps import VOID


class TruthCounts:
    """Counts the true segments, image by image.

    Args:
        num_classes: contiguous class ids are 0 ... num_classes - 1.
    """

    def __init__(self, num_classes: int) -> None:
        self.pictures = 0
        self.pixels, self.void_pixels, self.crowds = 0, 0, 0
        self.class_segments, self.class_pictures, self.class_pixels, self.class_crowds = (
            np.zeros(num_classes, np.int64) for _ in range(4)
        )
        self.areas: list[int] = []
        self.segments_of_picture: list[int] = []

    def add(self, image: ComparedImage) -> None:
        """Add an image."""
        areas = image.overlaps.true_areas
        self.pictures += 1
        self.pixels += sum(areas.values())
        self.void_pixels += areas.get(VOID, 0)
        self.crowds += len(image.crowd_class)
        self.segments_of_picture.append(len(image.true_class))
        self.areas += [areas[i] for i in image.true_class]
        for true_id, label in image.true_class.items():
            self.class_segments[label] += 1
            self.class_pixels[label] += areas[true_id]
        for label in image.crowd_class.values():
            self.class_crowds[label] += 1
        for label in set(image.true_class.values()):
            self.class_pictures[label] += 1

    def as_json(self) -> dict[str, Any]:
        """Of the whole; areas are quantiles (0, ¼, ½, ¾, 1) in pixels."""
        return {
            "pictures": self.pictures,
            "segments": int(self.class_segments.sum()),
            "crowds": self.crowds,
            "void_share": self.void_pixels / self.pixels if self.pixels else None,
            "classes_present": int((self.class_segments > 0).sum()),
            "segments_per_picture": quantiles(self.segments_of_picture),
            "areas": quantiles(self.areas),
        }

    def of_class(self, label: int) -> dict[str, Any]:
        """Of one class; ``pixel_share`` is of all pixels."""
        return {
            "true_segments": int(self.class_segments[label]),
            "pictures": int(self.class_pictures[label]),
            "crowds": int(self.class_crowds[label]),
            "pixel_share": float(self.class_pixels[label] / self.pixels) if self.pixels else 0.0,
        }


def quantiles(values: list[int]) -> list[float] | None:
    """Least, lower quarter, middle, upper quarter and largest; None of nothing."""
    return [float(value) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])] if values else None


#: Bins of a score between 0 and 1; narrow ones, as segments below the score threshold are never seen.
BINS = 20


@dataclass
class Reliability:
    """How often predicted segments are right, by their score; those that panoptic quality ignores don't count."""

    count: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    right: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    score: np.ndarray = field(default_factory=lambda: np.zeros(BINS))

    def add(self, segments: Iterable[tuple[float, bool]]) -> None:
        """Add predicted segments: the score, in 0 ... 1, and whether it is a match."""
        for score, is_right in segments:
            place = min(int(score * BINS), BINS - 1)
            self.count[place] += 1
            self.right[place] += is_right
            self.score[place] += score

    def ece(self) -> float:
        """Expected calibration error: mean distance of score and share of right ones, in parts of 1; NaN if empty."""
        total = int(self.count.sum())
        return float(np.abs(self.right - self.score).sum() / total) if total else float("nan")

    def overconfidence(self) -> float:
        """Mean score less the share of right ones; NaN if empty."""
        total = int(self.count.sum())
        return float((self.score.sum() - self.right.sum()) / total) if total else float("nan")

    def as_json(self) -> dict[str, Any]:
        """Everything, in parts of 1; bins that hold nothing are left out."""
        bins = [
            {
                **{"from": place / BINS, "to": (place + 1) / BINS, "segments": int(self.count[place])},
                "score": float(self.score[place] / self.count[place]),
                "right": float(self.right[place] / self.count[place]),
            }
            for place in np.flatnonzero(self.count).tolist()
        ]
        known = bool(self.count.any())
        return {
            "segments": int(self.count.sum()),
            "ece": self.ece() if known else None,
            "overconfidence": self.overconfidence() if known else None,
            "bins": bins,
        }
