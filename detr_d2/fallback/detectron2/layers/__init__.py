"""An independently written subset of Detectron2's API; not Detectron2."""

from .shape_spec import ShapeSpec

__all__ = ["ShapeSpec"]
