"""An independently written subset of Detectron2's API; not Detectron2. Models, backbones, and output sizes."""

from . import resnet  # noqa: F401  (registers build_resnet_backbone)
from .build import BACKBONE_REGISTRY, META_ARCH_REGISTRY, Backbone, build_backbone, build_model
from .postprocessing import detector_postprocess

__all__ = [
    "BACKBONE_REGISTRY",
    "META_ARCH_REGISTRY",
    "Backbone",
    "build_backbone",
    "build_model",
    "detector_postprocess",
]
