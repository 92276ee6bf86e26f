"""Images chosen from exports: those whose labels a person touched, and some of COCO's own.

``--only-changed BASE``: BASE is what a model labelled and what was imported in CVAT. An image is unchanged where both
have the same labels: the same class, whatever its spelling, on the same pixels. Ids, order, layers and ``iscrowd``,
which CVAT gives to every brush mask, don't count.

``--coco-images N``: their stuff and things are named as in the dataset that is being made.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np

from detr_d2.errors import ConfigError, DatasetError
from detr_d2.labels.readers import read_exports, shape_mask
from detr_d2.labels.records import ClassRecord, Export, ImageRecord, Label, Note
from detr_d2.labels.rules.categories import normal_name
from detr_d2.labels.values import Size
from detr_d2.progress import progress
from detr_d2.wording import counted

from .options import CocoThings, StuffClasses, refuse_other
from .stuff.policies import ClassMapping

#: A class and what says where it is: a shape, or the pixels.
_Mark: TypeAlias = tuple[str, object]


@dataclass
class ChangedImages:
    """What is left of exports, and how many images have the labels of BASE, have other ones, or aren't in BASE."""

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
        base: exports of the same images, in any format, or a folder of ``detr-d2 predict``; the image files needn't be
            there.

    Raises:
        DatasetError: nothing was changed; or ``base`` can't be read.
        MissingFileError: ``base`` isn't there.
    """
    known = _by_name(read_exports([_imported(base)], "cvat", needs_images=False))
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


def _imported(base: Path) -> Path:
    """What was imported in CVAT: one of the formats in which a folder of ``detr-d2 predict`` may hold each image."""
    formats = [base / name for name in ("cvat-xml", "cvat-coco")] if (base / "journal.jsonl").is_file() else []
    return next((folder for folder in formats if folder.is_dir()), base)


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


@dataclass(frozen=True)
class _MappedLabels:
    """An image's labels under the names that their classes have in the dataset; a source of labels."""

    record: ImageRecord
    names: Mapping[str, str]

    def __call__(self, notes_: list[Note] | None = None, size: Size | None = None) -> Sequence[Label]:
        """The labels, renamed; raises as their own source does."""
        labels = self.record.read_labels(notes_, size)
        return [replace(label, class_name=self.names[label.class_name]) for label in labels]


def mix_in(
    exports: Sequence[Export],
    count: int,
    seed: int = 0,
    things: CocoThings = "misc",
    classes: StuffClasses = "super",
) -> list[Export]:
    """Some images of COCO panoptic datasets, with classes that go with other people's labels.

    What COCO left void stays void, so the policy for unlabelled stuff has nothing to do with them.

    Args:
        exports: as the readers give them; others than COCO panoptic are passed by, as COCO's folders hold both.
        count: of images. Which ones depends on their names and the seed alone: with a larger count come more.
        seed: another one takes others.
        things: all become ``misc``, which is stuff, or ``keep`` their names and stay things.
        classes: of stuff: ``super`` or ``coco``.

    Raises:
        ConfigError: the count isn't 1 or more, or there are no such ``things``.
        DatasetError: none of the exports is COCO panoptic.
    """
    if count < 1:
        raise ConfigError(f"--coco-images {count}: allowed are 1 and more.")
    refuse_other("--coco-things", things, CocoThings)
    panoptic = [export for export in exports if export.kind == "coco-panoptic"]
    if not panoptic:
        kinds = ", ".join(f"{export.file} ({export.kind})" for export in exports) or "nothing"
        raise DatasetError(
            f"--coco-images wants COCO panoptic annotations, such as annotations/panoptic_val2017.json with its PNGs, "
            f"and found {kinds}. Fetch them from cocodataset.org, or leave --coco-images out."
        )
    mapping, keeps_things = ClassMapping(classes, "misc"), things == "keep"
    chosen = zip(panoptic, _choose(panoptic, count, seed))
    mixed = [_mapped(export, images, mapping, keeps_things) for export, images in chosen]
    total = sum(len(export.images) for export in mixed)
    if total < count:
        message = f"there are {total} images of COCO, fewer than the {count} asked for."
        mixed[0] = replace(mixed[0], notes=(*mixed[0].notes, Note("coco-few", message, str(mixed[0].file))))
    return [export for export in mixed if export.images]


def _choose(exports: Sequence[Export], count: int, seed: int) -> list[list[ImageRecord]]:
    """For each export the images taken, in its order: those with the lowest digests."""

    def digest(export: Export, record: ImageRecord) -> bytes:
        return hashlib.blake2b(f"{seed}\0{export.name}\0{record.name}".encode(), digest_size=16).digest()

    found = [(digest(export, record), export, record) for export in exports for record in export.images]
    lowest = {(id(export), record.name) for _, export, record in sorted(found, key=lambda one: one[0])[:count]}
    return [[record for record in export.images if (id(export), record.name) in lowest] for export in exports]


def _mapped(export: Export, images: Sequence[ImageRecord], mapping: ClassMapping, keeps_things: bool) -> Export:
    """An export of those images in the dataset's classes."""
    kept = {record.name: record for record in export.classes if record.is_thing and keeps_things}
    names = {
        record.name: record.name if record.name in kept else mapping.name_of(record.name, record.is_thing)
        for record in export.classes
    }
    usual = {record.name: record for record in mapping.records()}
    stuff = {found: usual.get(found, ClassRecord(found, False)) for found in names.values() if found not in kept}
    mapped = tuple(replace(record, labels=_MappedLabels(record, names)) for record in images)
    classes = (*stuff.values(), *kept.values())
    return replace(export, classes=classes, images=mapped, is_cvat=False, source="coco")
