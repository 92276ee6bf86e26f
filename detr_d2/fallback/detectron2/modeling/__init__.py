"""An independently written subset of Detectron2's API; not Detectron2. Models, backbones, and output sizes."""

from .build import BACKBONE_REGISTRY, META_ARCH_REGISTRY, Backbone, build_backbone, build_model, detector_postprocess  # noqa: F401
from .resnet import build_resnet_backbone as _build_resnet_backbone  # noqa: F401  (registered by its import)
