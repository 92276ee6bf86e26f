"""How good a model is: panoptic quality and box AP, through Detectron2's evaluators."""

from __future__ import annotations

from detr_d2.evaluation.builder import build_evaluator
from detr_d2.evaluation.panoptic_evaluator import DetrPanopticEvaluator
from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality

__all__ = ["DetrPanopticEvaluator", "PanopticQuality", "Quality", "build_evaluator"]
