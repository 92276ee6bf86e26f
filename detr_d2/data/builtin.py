"""Datasets known by name wherever ``detr_d2`` is imported: their places under ``DETECTRON2_DATASETS``.

Nothing is read here; ``datasets/README.md`` shows the folders.
"""

from __future__ import annotations

import os

from .categories import Category, coco_categories, construction_categories
from .registration import DatasetEntry, register_entry


def datasets_root() -> str:
    """The folder of all datasets: ``DETECTRON2_DATASETS``, or ``datasets`` in the working directory."""
    return os.path.abspath(os.path.expanduser(os.environ.get("DETECTRON2_DATASETS") or "datasets"))


def builtin_entries(root: str) -> list[DatasetEntry]:
    """The built-in datasets with ``root`` as the folder of all datasets."""
    entries = []
    for name in ("construction", "construction_coco"):
        for split in ("train", "val"):
            entries.append(
                _entry(
                    f"{name}_panoptic_{split}",
                    os.path.join(root, name),
                    ("images", f"panoptic_{split}.json", "panoptic", f"instances_{split}.json"),
                    construction_categories(),
                )
            )
    for split in ("train", "val"):
        places = (
            f"{split}2017",
            f"annotations/panoptic_{split}2017.json",
            f"panoptic_{split}2017",
            f"annotations/instances_{split}2017.json",
        )
        entries.append(
            _entry(f"coco_2017_{split}_panoptic_detr", os.path.join(root, "coco"), places, coco_categories())
        )
    return entries


def register_builtin(root: str | None = None) -> None:
    """Register the built-in datasets; they are looked for under ``root``, by default :func:`datasets_root`."""
    for entry in builtin_entries(root or datasets_root()):
        register_entry(entry)


def _entry(name: str, folder: str, places: tuple[str, str, str, str], categories: tuple[Category, ...]) -> DatasetEntry:
    images, panoptic_json, panoptic_root, instances_json = (os.path.join(folder, *place.split("/")) for place in places)
    return DatasetEntry(
        name=name,
        images=images,
        panoptic_json=panoptic_json,
        panoptic_root=panoptic_root,
        instances_json=instances_json,
        categories=categories,
        instances_may_be_absent=True,
        advice=(
            "Set DETECTRON2_DATASETS to the folder that holds all datasets (the default is 'datasets' in the working "
            "directory); datasets/README.md shows what belongs into it. Other places: DATASETS.REGISTER."
        ),
    )
