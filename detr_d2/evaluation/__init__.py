"""How good a model is: panoptic quality and box AP, through Detectron2's evaluators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detr_d2.lazy import lazy_names

if TYPE_CHECKING:
    from detr_d2.evaluation.builder import build_evaluator
    from detr_d2.evaluation.panoptic_evaluator import DetrPanopticEvaluator
    from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality

__all__ = ["DetrPanopticEvaluator", "PanopticQuality", "Quality", "build_evaluator"]

__getattr__ = lazy_names(
    __name__,
    {
        "builder": ("build_evaluator",),
        "panoptic_evaluator": ("DetrPanopticEvaluator",),
        "panoptic_quality": ("PanopticQuality", "Quality"),
    },
)
