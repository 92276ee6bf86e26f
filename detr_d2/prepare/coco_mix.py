"""COCO's own pictures mixed in: some of them, their stuff and things named as in the dataset that is being made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from detr_d2.errors import ConfigError, DatasetError
from detr_d2.labels.records import ClassRecord, Export, Label, LabelSource, Note, PictureRecord

from .stuff.class_mapping import ClassMapping
from .stuff.settings import StuffClasses

CocoThings: TypeAlias = Literal["misc", "keep"]
COCO_THINGS: tuple[CocoThings, ...] = get_args(CocoThings)


@dataclass(frozen=True)
class MappedLabels:
    """A picture's labels under other class names; read when the picture's turn comes.

    Args:
        labels: as they are, or what reads them.
        names: the name of each class in the dataset.
    """

    labels: tuple[Label, ...] | LabelSource
    names: Mapping[str, str]

    def __call__(self) -> Sequence[Label]:
        """The labels, renamed; raises as their own source does."""
        labels = self.labels if isinstance(self.labels, tuple) else self.labels()
        return [replace(label, class_name=self.names[label.class_name]) for label in labels]


def mix_in(
    exports: Sequence[Export],
    count: int,
    seed: int = 0,
    things: CocoThings = "misc",
    classes: StuffClasses = "super",
) -> list[Export]:
    """Some pictures of COCO panoptic datasets, with classes that go with other people's labels.

    What COCO left void stays void, so the policy for unlabelled stuff has nothing to do with them.

    Args:
        exports: as the readers give them; others than COCO panoptic are passed by, as COCO's folders hold both.
        count: of pictures. Which ones depends on their names and the seed alone: with a larger count come more.
        seed: another one takes others.
        things: all become ``misc``, which is stuff, or ``keep`` their names and stay things.
        classes: of stuff: ``super`` or ``coco``.

    Raises:
        ConfigError: the count isn't 1 or more, or there are no such ``things``.
        DatasetError: none of the exports is COCO panoptic.
    """
    if count < 1:
        raise ConfigError(f"--coco-images {count}: allowed are 1 and more.")
    if things not in COCO_THINGS:
        raise ConfigError(f"--coco-things {things}: allowed are {', '.join(COCO_THINGS)}.")
    panoptic = [export for export in exports if export.kind == "coco-panoptic"]
    if not panoptic:
        kinds = ", ".join(f"{export.file} ({export.kind})" for export in exports) or "nothing"
        raise DatasetError(
            f"--coco-images wants COCO panoptic annotations, such as annotations/panoptic_val2017.json with its PNGs, "
            f"and found {kinds}. Fetch them from cocodataset.org, or leave --coco-images out."
        )
    chosen = _choose(panoptic, count, seed)
    mapping = ClassMapping(classes, "misc")
    mixed = [_mapped(export, chosen[number], mapping, things) for number, export in enumerate(panoptic)]
    total = sum(len(export.pictures) for export in mixed)
    if total < count:
        message = f"there are {total} pictures of COCO, fewer than the {count} asked for."
        mixed[0] = replace(mixed[0], notes=(*mixed[0].notes, Note("coco-few", message, str(mixed[0].file))))
    return [export for export in mixed if export.pictures]


def _choose(exports: Sequence[Export], count: int, seed: int) -> list[tuple[PictureRecord, ...]]:
    """For each export the pictures taken, in its order."""

    def draw(export: Export, picture: PictureRecord) -> bytes:
        return hashlib.blake2b(f"{seed}\0{export.name}\0{picture.name}".encode(), digest_size=16).digest()

    places = [(number, place) for number, export in enumerate(exports) for place in range(len(export.pictures))]
    places.sort(key=lambda pair: draw(exports[pair[0]], exports[pair[0]].pictures[pair[1]]))
    taken = sorted(places[:count])
    return [
        tuple(export.pictures[place] for of_export, place in taken if of_export == number)
        for number, export in enumerate(exports)
    ]


def _mapped(export: Export, pictures: tuple[PictureRecord, ...], mapping: ClassMapping, things: CocoThings) -> Export:
    """An export of those pictures in the dataset's classes."""
    keeps_things = things == "keep"
    names = {
        record.name: record.name if record.is_thing and keeps_things else mapping.name_of(record.name, record.is_thing)
        for record in export.classes
    }
    kept = [record for record in export.classes if record.is_thing and keeps_things]
    usual = {record.name: record for record in mapping.records()}
    stuff = {found: usual.get(found, ClassRecord(found, False)) for found in names.values()}
    for record in kept:
        stuff.pop(record.name, None)
    return replace(
        export,
        classes=(*stuff.values(), *kept),
        pictures=tuple(replace(picture, labels=MappedLabels(picture.labels, names)) for picture in pictures),
        is_cvat=False,
    )
