"""COCO's own images mixed in: some of them, their stuff and things named as in the dataset that is being made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from detr_d2.errors import ConfigError, DatasetError
from detr_d2.labels.records import ClassRecord, Export, ImageRecord, Label, Note

from .options import COCO_THINGS, CocoThings, StuffClasses, refuse_other
from .stuff.policy import ClassMapping


@dataclass(frozen=True)
class MappedLabels:
    """An image's labels under other class names; a source of labels.

    Args:
        record: the image, its labels as they are.
        names: the name of each class in the dataset.
    """

    record: ImageRecord
    names: Mapping[str, str]

    def __call__(self, notes_: list[Note] | None = None) -> Sequence[Label]:
        """The labels, renamed; raises as their own source does."""
        return [replace(label, class_name=self.names[label.class_name]) for label in self.record.read_labels(notes_)]


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
    refuse_other("--coco-things", things, COCO_THINGS)
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
    mapped = tuple(replace(record, labels=MappedLabels(record, names)) for record in images)
    classes = (*stuff.values(), *kept.values())
    return replace(export, classes=classes, images=mapped, is_cvat=False, source="coco")
