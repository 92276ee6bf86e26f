"""Yard scenes on disk: what their files promise to a trainer and to a person."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from detr_d2.errors import DatasetError
from detr_d2.yard import dataset
from detr_d2.yard.dataset import write_yard
from detr_d2.yard.scene import THINGS


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A yard of 12 training and 4 validation scenes."""
    return write_yard(tmp_path_factory.mktemp("yards") / "yard", train=12, val=4)


def fingerprints(folder: Path) -> dict[str, str]:
    """Hash of each file by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("split", ["train", "val"])
def test_panoptic_json_agrees_with_its_pngs(yard: Path, split: str) -> None:
    content = json.loads((yard / f"panoptic_{split}.json").read_text())

    for image, annotation in zip(content["images"], content["annotations"]):
        picture = Image.open(yard / "images" / image["file_name"])
        colors = np.asarray(Image.open(yard / "panoptic" / annotation["file_name"])).astype(int)
        ids = colors @ [1, 256, 65536]
        assert picture.size == (image["width"], image["height"]) == ids.shape[::-1]
        assert set(np.unique(ids)) == {segment["id"] for segment in annotation["segments_info"]}
        assert sum(segment["area"] for segment in annotation["segments_info"]) == ids.size
        for segment in annotation["segments_info"]:
            rows, columns = np.nonzero(ids == segment["id"])
            left, top, width, height = segment["bbox"]
            assert segment["area"] == len(rows)
            assert (left, left + width) == (columns.min(), columns.max() + 1)
            assert (top, top + height) == (rows.min(), rows.max() + 1)


def test_instances_are_the_things_of_the_panoptic_file(yard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    panoptic = json.loads((yard / "panoptic_val.json").read_text())
    things = {category["id"] for category in panoptic["categories"] if category["isthing"]}
    expected = [
        (annotation["image_id"], segment["category_id"], segment["area"], segment["bbox"])
        for annotation in panoptic["annotations"]
        for segment in annotation["segments_info"]
        if segment["category_id"] in things
    ]

    coco = COCO(str(yard / "instances_val.json"))

    found = coco.loadAnns(coco.getAnnIds())
    assert [(a["image_id"], a["category_id"], a["area"], a["bbox"]) for a in found] == expected
    assert [int(coco.annToMask(a).sum()) for a in found] == [a["area"] for a in found]
    assert {category["name"] for category in coco.loadCats(coco.getCatIds())} == set(THINGS)


def test_validation_scenes_are_other_scenes(yard: Path) -> None:
    images: dict[str, set[str]] = {"train": set(), "val": set()}
    for path in (yard / "images").iterdir():
        images[path.name.split("_")[1]].add(hashlib.sha256(path.read_bytes()).hexdigest())

    assert (len(images["train"]), len(images["val"])) == (12, 4)
    assert not images["train"] & images["val"]


def test_writing_again_gives_the_same_bytes(yard: Path) -> None:
    before = fingerprints(yard)

    write_yard(yard, train=12, val=4)

    assert fingerprints(yard) == before


def test_a_yard_is_replaced_by_another_yard(tmp_path: Path) -> None:
    write_yard(tmp_path / "yard", train=3, val=1, width=96, height=80)

    write_yard(tmp_path / "yard", train=1, val=1, width=96, height=80)

    assert len(list((tmp_path / "yard" / "images").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["yard"]


def test_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(DatasetError, match=r"holds files, but no yard\.json"):
        write_yard(tmp_path, train=1, val=1)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_yard_with_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    folder = write_yard(tmp_path / "yard", train=1, val=1, width=96, height=80)
    (folder / "notes.txt").write_text("mine")

    with pytest.raises(DatasetError, match=r"also holds notes\.txt"):
        write_yard(folder, train=1, val=1)

    assert (folder / "notes.txt").read_text() == "mine"


def test_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "yard").write_text("a file")

    with pytest.raises(DatasetError, match="isn't a folder"):
        write_yard(tmp_path / "yard", train=1, val=1)


def test_nothing_is_left_where_writing_stops_halfway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_yard(tmp_path / "yard", train=2, val=1, width=96, height=80)
    before = fingerprints(folder)

    def stop(index: int, *arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "make_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        write_yard(folder, train=2, val=1, width=96, height=80, seed=1)

    assert [path.name for path in tmp_path.iterdir()] == ["yard"]
    assert fingerprints(folder) == before
