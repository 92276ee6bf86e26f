"""An independently written subset of Detectron2's API; not Detectron2."""

__version__ = "0.0+detr_d2"
