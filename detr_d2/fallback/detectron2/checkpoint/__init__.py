"""An independently written subset of Detectron2's API; not Detectron2. Saving and loading weights and states."""

from .detection_checkpoint import DetectionCheckpointer

__all__ = ["DetectionCheckpointer"]
