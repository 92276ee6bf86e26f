"""Registered datasets with files that are absent or wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detr_d2.data import (
    dataset_metadata,
    register,
)
from detr_d2.errors import DatasetError, MissingFileError
from tests.data.registering import _set, arguments, change

from detectron2.data import DatasetCatalog


def test_missing_json_names_path_and_cure(name: str, tmp_path: Path) -> None:
    register(name, **arguments(tmp_path))

    for use in (dataset_metadata, DatasetCatalog.get):
        with pytest.raises(MissingFileError, match=r"panoptic_train\.json.*DATASETS\.REGISTER"):
            use(name)


@pytest.mark.parametrize("lost", ["images", "panoptic"])
def test_missing_folder_is_named(name: str, yard: Path, lost: str) -> None:
    register(name, **arguments(yard))
    (yard / lost).rename(yard / "moved")

    with pytest.raises(MissingFileError, match=str(yard / lost)):
        DatasetCatalog.get(name)


@pytest.mark.parametrize("pattern", ["images/*.jpg", "panoptic/*.png"])
def test_missing_image_is_named(name: str, yard: Path, pattern: str) -> None:
    register(name, **arguments(yard))
    lost = next(path for path in sorted(yard.glob(pattern)) if "train" in path.name)
    lost.unlink()

    with pytest.raises(MissingFileError, match=rf"{lost.name} \(image id 1\): \w+-missing: isn't there"):
        DatasetCatalog.get(name)


def test_missing_instances_are_named(name: str, yard: Path) -> None:
    (yard / "instances_train.json").unlink()
    register(name, **arguments(yard))

    with pytest.raises(MissingFileError, match=r"instances_train\.json"):
        dataset_metadata(name)


def _drop(path: str) -> Callable[[Any], None]:
    """An edit that removes a key at a dotted path."""

    def edit(content: Any) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in parents:
            content = content[part]
        del content[last]

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            _set("categories.3.isthing", 2),
            r"categories\[3\] \('plant'\) has isthing=2.*1 for a thing .* 0 for stuff",
        ),
        (_set("categories.3.isthing", "yes"), r"isthing='yes'"),
        (_drop("categories.3.isthing"), r"has no isthing"),
        (_set("categories.3.id", "4"), r"categories\[3\] \('plant'\) has id='4'"),
        (_set("categories.3.id", 1), r"categories\[3\] .*has the id 1 of categories\[0\]"),
        (_set("categories.3.name", "sky"), r"'sky' of categories\[0\]"),
        (_set("categories.3.name", ""), r"name=''"),
        (_set("categories", []), "'categories' is empty; .*nothing to learn"),
        (_drop("categories"), "'categories' is missing"),
        (_set("images", {}), "'images' is a object|'images' is an object"),
        (_set("images.1.id", 1), r"image id 1\).* images\[1\] has the id of an earlier image"),
        (_set("images.1.width", 0), r"images\[1\] has width=0"),
        (_drop("images.1.height"), r"images\[1\] has no height"),
        (_set("images.0.file_name", None), r"file_name=None"),
        (_set("annotations.1.image_id", 77), r"annotations\[1\] has image_id=77"),
        (
            _set("annotations.1.image_id", 1),
            r"image id 1\).* annotations\[1\] .* has its annotation already",
        ),
        (_set("annotations.0.segments_info.1.category_id", 99), r"segment id \d+\).*\[1\] has category_id=99"),
        (_set("annotations.0.segments_info.1.id", 0), r"segment id 0\).*has id=0.*ids from 1"),
        (_set("annotations.0.segments_info.1.id", 256**3), r"has id=16777216.*ids from 1 to 16777215"),
        (_set("annotations.0.segments_info.1.id", "x"), r"id='x'"),
        (_set("annotations.0.segments_info.1.iscrowd", 3), r"iscrowd=3"),
        (_set("annotations.0.segments_info.1", 3), r"segments_info\[1\] is a number"),
        (_set("annotations", []), "no annotated image"),
    ],
)
def test_wrong_entry_is_named_with_its_file(name: str, yard: Path, edit: Callable[[Any], Any], message: str) -> None:
    change(yard / "panoptic_train.json", edit)
    register(name, **arguments(yard))

    with pytest.raises(DatasetError, match=message) as caught:
        DatasetCatalog.get(name)

    assert "panoptic_train.json" in str(caught.value)


def test_segment_listed_twice_is_named(name: str, yard: Path) -> None:
    def edit(content: Any) -> None:
        segments = content["annotations"][0]["segments_info"]
        segments.append(segments[0])

    change(yard / "panoptic_train.json", edit)
    register(name, **arguments(yard))

    with pytest.raises(DatasetError, match=r"image id 1, segment id \d+\).*has the id of an earlier segment"):
        DatasetCatalog.get(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "isn't JSON"),
        (b"", "isn't JSON"),
        (b"\xff\xfe\x00", "isn't JSON"),
        (b"[" * 100_000, "isn't JSON"),
        (b"[]", "has a list at its top"),
        (b"3", "has a number at its top"),
    ],
)
def test_broken_json_is_named(name: str, yard: Path, content: bytes, message: str) -> None:
    (yard / "panoptic_train.json").write_bytes(content)
    register(name, **arguments(yard))

    with pytest.raises(DatasetError, match=message):
        dataset_metadata(name)


def test_json_that_is_a_folder_is_named(name: str, yard: Path) -> None:
    register(name, **{**arguments(yard), "panoptic_json": yard / "images"})

    with pytest.raises(DatasetError, match="images: json-broken: can't be read"):
        dataset_metadata(name)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_set("annotations.0.bbox", [1, 2, 3]), r"bbox=\[1, 2, 3\].*four finite numbers"),
        (_set("annotations.0.bbox", [1, 2, float("nan"), 3]), "nan"),
        (_set("annotations.0.image_id", 99), "image_id=99"),
        (_set("annotations.0.category_id", 1), "category_id=1"),
        (
            _set("annotations.0.segmentation", {"size": [3, 4], "counts": "x"}),
            r"\[3, 4\]; its image is \[80, 96\]",
        ),
    ],
)
def test_wrong_instance_is_named(name: str, yard: Path, edit: Callable[[Any], Any], message: str) -> None:
    change(yard / "instances_train.json", edit)
    register(name, images=yard / "images", instances_json=yard / "instances_train.json")

    with pytest.raises(DatasetError, match=message) as caught:
        DatasetCatalog.get(name)

    assert re.search(r"instances_train\.json .*: annotations\[0\]", str(caught.value))
