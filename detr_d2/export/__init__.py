"""Trained models as files that run without this project: ONNX, and programs of ``torch.export``."""

from .graph import DetrGraph
from .writing import FORMATS, METADATA_KEY, describe_model, export_model

__all__ = ["FORMATS", "METADATA_KEY", "DetrGraph", "describe_model", "export_model"]
