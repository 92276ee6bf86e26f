"""Whether one evaluation is better than another on the same images: ``detr-d2 compare``."""

from __future__ import annotations

from detr_d2.evaluation.comparison.comparing import Comparison, compare_evaluations

__all__ = ["Comparison", "compare_evaluations"]
