"""JSONs of COCO that are broken, of a wrong shape or empty, and folders without an export."""

from __future__ import annotations

import json

import pytest

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.labels.readers import read_exports
from tests.prepare.made_exports import (
    annotation,
    coco,
    coco_files,
    image_bytes,
    write_folder,
    write_zip,
)
from tests.prepare.reading import codes_of, read_one


@pytest.mark.parametrize(
    "changed",
    [
        {"images": None},
        {"annotations": {}},
        {"categories": 5},
    ],
)
def test_json_of_a_wrong_shape_is_refused_by_its_name(changed, tmp_path):
    write_folder(
        tmp_path, {**coco_files(), "annotations/instances_default.json": json.dumps(coco() | changed).encode()}
    )

    with pytest.raises(DatasetError, match="instances_default"):
        read_exports([tmp_path], "cvat")


@pytest.mark.parametrize(
    ("changed", "codes", "classes"),
    [
        ({"annotations": [5]}, ["json-type"], ["brick"]),
        ({"categories": [{"id": 1, "name": ""}]}, ["category-name"], ["class_1"]),
        ({"categories": [{"id": 1, "name": "a"}, {"id": "1", "name": "b"}]}, ["category-id", "id-duplicate"], ["a"]),
    ],
)
def test_json_with_wrong_entries_is_fixed_as_check_fixes_it(changed, codes, classes, tmp_path):
    export = read_one(tmp_path, **changed)

    assert codes_of(export) == codes and [entry.name for entry in export.classes] == classes


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 10**5, b'{"a":' * 10**5])
def test_broken_json_is_refused_by_its_name(content, tmp_path):
    write_folder(tmp_path, {"coco.json": content, "images/1.jpg": image_bytes()})

    with pytest.raises(DatasetError, match=r"coco\.json"):
        read_exports([tmp_path], "cvat")


def test_json_beyond_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("detr_d2.labels.rules.json_files.memory_free", lambda: 1000)

    with pytest.raises(DatasetError, match="GB of memory"):
        read_one(tmp_path, annotation())


def test_every_broken_export_is_named_at_once(tmp_path):
    write_folder(tmp_path / "one", {"coco.json": b"{"})
    write_folder(tmp_path / "two", {"coco.json": b"[]"})

    with pytest.raises(DatasetError, match=r"(?s)one.*two"):
        read_exports([tmp_path], "cvat")


def test_nothing_to_read_is_refused(tmp_path):
    write_folder(tmp_path / "photos", {"1.jpg": image_bytes()})
    write_zip(tmp_path / "outer" / "outer.zip", {"inner.zip": write_zip(tmp_path / "x.zip", coco_files()).read_bytes()})

    with pytest.raises(DatasetError, match="no export"):
        read_exports([tmp_path / "photos"], "cvat")
    with pytest.raises(DatasetError, match="zip of zips"):
        read_exports([tmp_path / "outer"], "cvat")
    with pytest.raises(DatasetError, match="is no export"):
        read_exports([tmp_path / "photos" / "1.jpg"], "cvat")
    with pytest.raises(MissingFileError):
        read_exports([tmp_path / "absent"], "cvat")
