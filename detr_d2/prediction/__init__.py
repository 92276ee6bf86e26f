"""A checkpoint used on images: files, folders, arrays; results to look at, to count with, and for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .prediction import Prediction
    from .predictor import DetrPredictor, Predictor

__all__ = ["DetrPredictor", "Prediction", "Predictor"]

__getattr__ = lazy_names(
    __name__,
    {"prediction": ("Prediction",), "predictor": ("DetrPredictor", "Predictor")},
)
