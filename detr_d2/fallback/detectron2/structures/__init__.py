"""An independently written subset of Detectron2's API; not Detectron2."""

from .boxes import Boxes, BoxMode
from .image_list import ImageList
from .instances import Instances
from .masks import BitMasks

__all__ = ["BitMasks", "BoxMode", "Boxes", "ImageList", "Instances"]
