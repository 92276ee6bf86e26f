"""The paper in pure torch: nothing here knows Detectron2, so that it can be lifted out and used alone."""

from .banding import band_first_stages_
from .criterion import SetCriterion
from .detr import Detr
from .dilation import use_published_dilation_
from .folding import fold_norms_
from .mask_head import AttentionMaps, MaskHead, predict_masks
from .matcher import HungarianMatcher, Target
from .panoptic import class_limits, instance_masks, kept_queries, panoptic_map, resize_nearest, upsample_mask
from .picture_losses import picture_losses
from .position_encoding import PositionEmbeddingSine
from .transformer import Transformer

__all__ = [
    "AttentionMaps",
    "Detr",
    "HungarianMatcher",
    "MaskHead",
    "PositionEmbeddingSine",
    "SetCriterion",
    "Target",
    "Transformer",
    "band_first_stages_",
    "class_limits",
    "fold_norms_",
    "instance_masks",
    "kept_queries",
    "panoptic_map",
    "picture_losses",
    "predict_masks",
    "resize_nearest",
    "upsample_mask",
    "use_published_dilation_",
]
