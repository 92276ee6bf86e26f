"""DETR and its panoptic mask head as a Detectron2 extension.

Importing this package chooses a ``detectron2`` (see :mod:`detr_d2.backend`) and registers the meta-architecture and
the datasets with it, so ``import detr_d2`` comes before any ``import detectron2``.
"""

from detr_d2.backend import backend_report, ensure_detectron2

__version__ = "0.1.0"

ensure_detectron2()

__all__ = ["__version__", "backend_report", "ensure_detectron2"]
