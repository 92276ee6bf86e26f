"""COCO's pictures mixed in: which ones, and what their classes become."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest

from detr_d2.errors import ConfigError, DatasetError
from detr_d2.labels.records import Box, ClassRecord, Export, FileRef, ImageRecord, Label
from detr_d2.prepare.selecting import mix_in

CLASSES = (
    ClassRecord("person", True, (1, 2, 3)),
    ClassRecord("sky-other-merged", False),
    ClassRecord("wall-brick", False),
    ClassRecord("wall-wood", False),
)


@dataclass(frozen=True)
class LateLabels:
    """Labels that are read later."""

    labels: tuple[Label, ...]

    def __call__(self, notes_=None, size=None):
        return self.labels


def _export(count=20, kind="coco-panoptic", name="val"):
    labels = tuple(Label(record.name, Box(0, 0, 2, 2), id=place) for place, record in enumerate(CLASSES))
    pictures = tuple(
        ImageRecord(FileRef(Path(f"{n}.jpg")), f"{n}.jpg", 4, 4, LateLabels(labels) if n % 2 else labels)
        for n in range(count)
    )
    return Export(name, kind, FileRef(Path(f"{name}.json")), CLASSES, pictures, is_cvat=False)


def _names(exports):
    return [image.name for export in exports for image in export.images]


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, ["misc", "sky", "wall", "wall"]),
        ({"classes": "coco"}, ["misc", "sky-other-merged", "wall-brick", "wall-wood"]),
        ({"things": "keep"}, ["person", "sky", "wall", "wall"]),
    ],
)
def test_mixed_labels_have_the_datasets_classes(choices, expected):
    (export,) = pickle.loads(pickle.dumps(mix_in([_export()], 20, **choices)))

    assert all([label.class_name for label in image.labels()] == expected for image in export.images)
    assert {record.name for record in export.classes} == set(expected)
    assert {record.name for record in export.classes if record.is_thing} == set(expected) & {"person"}
    assert export.images[0].labels()[3].id == 3 and not export.is_cvat


def test_mixed_stuff_has_its_usual_colours():
    (export,) = mix_in([_export()], 1)

    assert {record.name: record.color for record in export.classes}["sky"] == (135, 195, 250)


def test_images_are_picked_by_seed_and_a_larger_count_adds_to_them():
    few, more, others = (_names(mix_in([_export()], count, seed)) for count, seed in ((5, 0), (9, 0), (5, 1)))

    assert few == _names(mix_in([_export()], 5, 0)) and len(few) == 5
    assert set(few) < set(more) and few == sorted(few, key=lambda name: int(name[:-4]))
    assert set(few) != set(others)


def test_images_come_from_all_panoptic_exports():
    exports = [_export(), _export(kind="coco-instances", name="instances"), _export(name="train")]

    mixed = mix_in(exports, 30)

    assert {export.name for export in mixed} == {"val", "train"} and len(_names(mixed)) == 30


def test_fewer_images_than_asked_for_are_named():
    (export,) = mix_in([_export(3)], 5)

    assert len(export.images) == 3
    assert [(note.code, note.message) for note in export.notes] == [
        ("coco-few", "there are 3 images of COCO, fewer than the 5 asked for.")
    ]


def test_what_cant_be_mixed_is_refused():
    with pytest.raises(DatasetError, match=r"found instances\.json \(coco-instances\)"):
        mix_in([_export(kind="coco-instances", name="instances")], 5)
    with pytest.raises(ConfigError, match="--coco-images 0"):
        mix_in([_export()], 0)
    with pytest.raises(ConfigError, match="--coco-things all"):
        mix_in([_export()], 5, things="all")
