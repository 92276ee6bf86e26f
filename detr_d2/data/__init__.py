"""Categories, datasets and how their images reach the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names
from .categories import Category, coco_categories, construction_categories, contiguous_order, distinct_colors
from .registration import register, register_builtin, register_from_config

if TYPE_CHECKING:
    from .augmentation import build_augmentations
    from .catalogs import categories_of, dataset_metadata, use_catalogs
    from .mapper import DetrPanopticDatasetMapper
    from .segments import read_panoptic_png
    from .train_loader import TrainLoader, build_train_loader

__all__ = [
    "Category",
    "DetrPanopticDatasetMapper",
    "TrainLoader",
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
    "use_catalogs",
]

__getattr__ = lazy_names(
    __name__,
    {
        "augmentation": ("build_augmentations",),
        "catalogs": ("categories_of", "dataset_metadata", "use_catalogs"),
        "mapper": ("DetrPanopticDatasetMapper",),
        "segments": ("read_panoptic_png",),
        "train_loader": ("TrainLoader", "build_train_loader"),
    },
)

register_builtin()
