"""The paper in plain torch: it can be lifted out and used alone."""

from .criterion import SetCriterion
from .denoising import Denoising
from .dense import DensePredictions
from .detr import Detr
from .matcher import HungarianMatcher, Target
from .panoptic_head import AttentionMaps, MaskHead, predict_masks, predict_masks_at_once
from .position_encoding import PositionEmbeddingSine
from .postprocess import (
    PostProcess,
    Sizes,
    instance_masks,
    instance_queries,
    kept_queries,
    panoptic_map,
    upsample_masks,
)
from .transformer import Transformer

__all__ = [
    "AttentionMaps",
    "Denoising",
    "DensePredictions",
    "Detr",
    "HungarianMatcher",
    "MaskHead",
    "PositionEmbeddingSine",
    "PostProcess",
    "SetCriterion",
    "Sizes",
    "Target",
    "Transformer",
    "instance_masks",
    "instance_queries",
    "kept_queries",
    "panoptic_map",
    "predict_masks",
    "predict_masks_at_once",
    "upsample_masks",
]
