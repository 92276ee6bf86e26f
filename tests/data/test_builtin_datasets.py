"""The built-in datasets."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from detr_d2.data import (
    dataset_metadata,
)
from detr_d2.data.registration import builtin_entries, datasets_root, register_builtin
from detr_d2.errors import MissingFileError

from detectron2.data import DatasetCatalog


def test_builtin_names_are_registered_and_know_their_classes() -> None:
    expected = {
        "construction_panoptic": 64,
        "construction_coco_panoptic": 64,
        "coco_2017": 133,
    }

    for split, (prefix, count) in itertools.product(("train", "val"), expected.items()):
        name = f"{prefix}_{split}" + ("_panoptic_detr" if prefix == "coco_2017" else "")
        assert len(dataset_metadata(name).stuff_classes) == count


def test_builtin_dataset_without_files_says_where_it_looked_and_what_to_do() -> None:
    with pytest.raises(MissingFileError, match=r"construction/panoptic_train\.json.*DETECTRON2_DATASETS"):
        DatasetCatalog.get("construction_panoptic_train")


def test_builtin_registration_repeats_without_harm() -> None:
    register_builtin()
    register_builtin()


def test_builtin_places_are_those_of_coco() -> None:
    entry = next(entry for entry in builtin_entries("/root") if entry.name == "coco_2017_val_panoptic_detr")

    assert (entry.images, entry.panoptic_json, entry.panoptic_root, entry.instances_json) == (
        "/root/coco/val2017",
        "/root/coco/annotations/panoptic_val2017.json",
        "/root/coco/panoptic_val2017",
        "/root/coco/annotations/instances_val2017.json",
    )


def test_detectron2_datasets_moves_the_builtin_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))

    entry = next(entry for entry in builtin_entries(datasets_root()) if entry.name == "construction_panoptic_val")

    assert entry.images == str(tmp_path / "construction" / "images")
    assert entry.panoptic_json == str(tmp_path / "construction" / "panoptic_val.json")
