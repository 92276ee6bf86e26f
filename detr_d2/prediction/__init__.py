"""A checkpoint used on images: files, folders, arrays; results to look at, to count with, and for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .default_predictor import DetrPredictor
    from .prediction import Prediction
    from .predictor import Predictor

__all__ = ["DetrPredictor", "Prediction", "Predictor"]

__getattr__ = lazy_names(
    __name__,
    {"default_predictor": ("DetrPredictor",), "prediction": ("Prediction",), "predictor": ("Predictor",)},
)
