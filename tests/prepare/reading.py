"""What the readers make of an export, in short."""

from __future__ import annotations

from pathlib import Path

from detr_d2.labels.readers import read_exports
from detr_d2.labels.records import Export, Label
from tests.prepare.made_exports import (
    coco_files,
    write_folder,
)


def labels_of(export: Export, number: int = 0) -> list[Label]:
    """The labels of a picture, whether they were read before or not."""
    labels = export.images[number].labels
    return list(labels if isinstance(labels, tuple) else labels())


def codes_of(export: Export) -> list[str]:
    """What was noted."""
    return [note.code for note in export.notes]


def read_one(folder: Path, *annotations: dict, **changed: object) -> Export:
    """An export of CVAT's "COCO 1.0", written and read."""
    (export,) = read_exports([write_folder(folder, coco_files(*annotations, **changed))], "cvat")
    return export
