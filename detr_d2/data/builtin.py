"""Datasets known by name wherever ``detr_d2`` is imported: their places under ``DETECTRON2_DATASETS``.

Nothing is read here; ``datasets/README.md`` shows the folders.
"""

from __future__ import annotations

import os

from .categories import coco_categories, construction_categories
from .registration import DatasetEntry, register_entry

_ADVICE = (
    "Set DETECTRON2_DATASETS to the folder that holds all datasets (the default is 'datasets' in the working "
    "directory); datasets/README.md shows what belongs into it. Other places: DATASETS.REGISTER."
)


def datasets_root() -> str:
    """The folder of all datasets: ``DETECTRON2_DATASETS``, or ``datasets`` in the working directory."""
    return os.path.abspath(os.path.expanduser(os.environ.get("DETECTRON2_DATASETS") or "datasets"))


def builtin_entries(root: str) -> list[DatasetEntry]:
    """The built-in datasets with ``root`` as the folder of all datasets."""
    made = "images", "panoptic_{}.json", "panoptic", "instances_{}.json"
    coco = "{}2017", "annotations/panoptic_{}2017.json", "panoptic_{}2017", "annotations/instances_{}2017.json"
    kinds = (
        ("construction_panoptic_{}", "construction", made, construction_categories()),
        ("construction_coco_panoptic_{}", "construction_coco", made, construction_categories()),
        ("coco_2017_{}_panoptic_detr", "coco", coco, coco_categories()),
    )
    entries = []
    for name, folder, places, categories in kinds:
        for split in ("train", "val"):
            images, labels, pngs, objects = (
                os.path.join(root, folder, *place.format(split).split("/")) for place in places
            )
            entries.append(DatasetEntry(name.format(split), images, labels, pngs, objects, categories, True, _ADVICE))
    return entries


def register_builtin(root: str | None = None) -> None:
    """Register the built-in datasets; they are looked for under ``root``, by default :func:`datasets_root`."""
    for entry in builtin_entries(root or datasets_root()):
        register_entry(entry)
