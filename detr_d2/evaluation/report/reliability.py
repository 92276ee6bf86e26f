"""Whether a score of 0.9 is right nine times of ten.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2 (reliability diagram, ECE).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

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
