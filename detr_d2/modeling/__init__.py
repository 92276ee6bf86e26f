"""The paper in plain torch: it can be lifted out and used alone."""

from .criterion import SetCriterion
from .detr import Detr
from .matcher import HungarianMatcher, Target
from .panoptic_head import AttentionMaps, MaskHead, predict_masks, predict_masks_at_once
from .picture_losses import picture_losses
from .position_encoding import PositionEmbeddingSine
from .postprocess import class_limits, instance_masks, kept_queries, panoptic_map, resize_nearest, upsample_mask
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
    "class_limits",
    "instance_masks",
    "kept_queries",
    "panoptic_map",
    "picture_losses",
    "predict_masks",
    "predict_masks_at_once",
    "resize_nearest",
    "upsample_mask",
]
