"""An independently written subset of Detectron2's API; not Detectron2."""

from dataclasses import dataclass

__all__ = ["ShapeSpec"]


@dataclass
class ShapeSpec:
    """What is known beforehand about a feature map; ``stride`` is relative to the image."""

    channels: int | None = None
    stride: int | None = None
