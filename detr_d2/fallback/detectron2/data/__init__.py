"""An independently written subset of Detectron2's API; not Detectron2."""

from . import transforms  # isort: skip
from .build import build_detection_test_loader, build_detection_train_loader, get_detection_dataset_dicts
from .catalog import DatasetCatalog, Metadata, MetadataCatalog

__all__ = [
    "DatasetCatalog",
    "Metadata",
    "MetadataCatalog",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
    "transforms",
]
