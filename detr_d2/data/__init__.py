"""Categories, datasets and how their pictures reach the model."""

from __future__ import annotations

from .augmentation import build_augmentations
from .builtin import register_builtin
from .categories import Category, coco_categories, construction_categories, contiguous_order, distinct_colors
from .mapper import DetrPanopticDatasetMapper
from .registration import categories_of, dataset_metadata, register
from .registration_config import register_from_config
from .segments import read_panoptic_png
from .train_loader import build_train_loader

register_builtin()

__all__ = [
    "Category",
    "DetrPanopticDatasetMapper",
    "build_augmentations",
    "build_train_loader",
    "categories_of",
    "coco_categories",
    "construction_categories",
    "contiguous_order",
    "dataset_metadata",
    "distinct_colors",
    "read_panoptic_png",
    "register",
    "register_from_config",
]
