"""``detr-d2 prepare --only-changed BASE``: of the exports just the images whose labels a person touched.

BASE is what a model labelled and what was imported in CVAT. An image is unchanged where both have the same labels: the
same class, whatever its spelling, on the same pixels. Ids, order, layers and ``iscrowd``, which CVAT gives to every
brush mask, don't count.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np

from detr_d2.errors import DatasetError
from detr_d2.labels.readers import read_exports, shape_mask
from detr_d2.labels.records import Export, ImageRecord, Label, Note
from detr_d2.labels.rules.categories import normal_name
from detr_d2.progress import progress
from detr_d2.wording import counted

#: A class and what says where it is: a shape, or the pixels.
_Mark: TypeAlias = tuple[str, object]


@dataclass
class ChangedImages:
    """What is left of exports.

    Args:
        exports: those with images that were changed or are new.
        unchanged, changed, new: how many images have the labels of BASE, have other ones, or aren't in BASE.
    """

    exports: list[Export] = field(default_factory=list)
    unchanged: int = 0
    changed: int = 0
    new: int = 0

    def __str__(self) -> str:
        images = counted(self.unchanged, "image is", "images are")
        return f"{images} as in BASE and left out; {self.changed} changed, {self.new} new"


def only_changed(exports: Sequence[Export], base: Path) -> ChangedImages:
    """The images of exports that don't have the labels of ``base``.

    Args:
        exports: as the readers give them.
        base: exports of the same images, in any format; the image files needn't be there.

    Raises:
        DatasetError: nothing was changed; or ``base`` can't be read.
        MissingFileError: ``base`` isn't there.
    """
    known = _by_name(read_exports([base], "cvat", needs_images=False))
    found = ChangedImages()
    total = sum(len(export.images) for export in exports)
    bar = iter(progress(range(total), total, "image"))
    for export in exports:
        kept = []
        for record in export.images:
            next(bar)
            other = _same_image(known, export.name, record.name)
            if other is not None and same_labels(record, other):
                found.unchanged += 1
                continue
            found.changed, found.new = found.changed + (other is not None), found.new + (other is None)
            kept.append(record)
        if kept:
            lost = counted(len(export.images) - len(kept), "image has", "images have")
            note = Note("labels-unchanged", f"{lost} the labels of {base}; left out.", str(export.file))
            notes = export.notes if len(kept) == len(export.images) else (*export.notes, note)
            found.exports.append(replace(export, images=tuple(kept), notes=notes))
    if not found.exports:
        raise DatasetError(f"no image is left by --only-changed {base}: all {found.unchanged} have its labels.")
    return found


def _by_name(exports: Iterable[Export]) -> dict[str, list[tuple[str, ImageRecord]]]:
    """The images by their names, by these without ending, and by their last part; each with its export's name."""
    found: dict[str, list[tuple[str, ImageRecord]]] = {}
    for export in exports:
        for record in export.images:
            for name in dict.fromkeys(_names(record.name)):
                found.setdefault(name, []).append((export.name, record))
    return found


def _names(name: str) -> Iterator[str]:
    path = PurePosixPath(name)
    yield from (name, f"{path.with_suffix('')}/", f"{path.stem}//")  # no name of an image ends so


def _same_image(known: dict[str, list[tuple[str, ImageRecord]]], export: str, name: str) -> ImageRecord | None:
    """The image of BASE that is meant; None where there is none, or where it could be one of several."""
    for key in _names(name):
        named = known.get(key, [])
        found = [record for its_export, record in named if its_export == export] or [record for _, record in named]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def same_labels(one: ImageRecord, other: ImageRecord) -> bool:
    """Whether the same classes are on the same pixels of two records of an image; what can't be read isn't the same."""
    try:
        labels, others = _objects(one.read_labels()), _objects(other.read_labels())
    except DatasetError:
        return False
    left = _shapes(labels) - _shapes(others)
    if not left and len(labels) == len(others):
        return True  # nothing has to be drawn
    if len(labels) != len(others) or (one.width, one.height) != (other.width, other.height) or not one.width:
        return False
    return _drawn(labels, one) == _drawn(others, one)


def _objects(labels: Iterable[Label]) -> list[tuple[str, list[Label]]]:
    """Class and pieces of each object."""
    objects: dict[tuple[str, int, int], list[Label]] = {}
    for number, label in enumerate(labels):
        own = 0 if label.group else number + 1
        objects.setdefault((normal_name(label.class_name), label.group, own), []).append(label)
    return [(key[0], pieces) for key, pieces in objects.items()]


def _shapes(objects: Iterable[tuple[str, list[Label]]]) -> Counter[_Mark]:
    return Counter((name, frozenset(piece.shape for piece in pieces)) for name, pieces in objects)


def _drawn(objects: Iterable[tuple[str, list[Label]]], image: ImageRecord) -> Counter[_Mark]:
    """As :func:`_shapes`, by pixels; what covers none, or can't be drawn, is nothing."""
    found: Counter[_Mark] = Counter()
    for name, pieces in objects:
        mask = np.zeros((image.height, image.width), bool)
        for piece in pieces:
            with suppress(DatasetError, ValueError):
                mask |= shape_mask(piece.shape, image.height, image.width)
        if mask.any():
            found[name, hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=16).digest()] += 1
    return found
