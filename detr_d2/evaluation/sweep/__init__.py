"""Which thresholds suit a model: many are tried on each image after one forward pass; ``detr-d2 sweep``."""

from __future__ import annotations

from detr_d2.evaluation.sweep.sweeping import Setting, choose, sweep_thresholds

__all__ = ["Setting", "choose", "sweep_thresholds"]
