"""Yard scenes as exports of CVAT: people's faults are in them, and the ground truth can be had back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from detr_d2.data import read_panoptic_png
from detr_d2.errors import DatasetError
from detr_d2.yard.dataset import BRUSHED, EXPORTS, write_yard_exports
from detr_d2.yard.scene import THINGS, make_scene


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports of twelve scenes."""
    return write_yard_exports(tmp_path_factory.mktemp("yards") / "exports", images=12)


def annotations_of(exports: Path, name: str) -> dict[str, Any]:
    text = (exports / "cvat" / name / "annotations" / "instances_default.json").read_text()
    content: dict[str, Any] = json.loads(text)
    return content


def test_outlines_show_the_scene_when_the_nearer_one_wins() -> None:
    for index in range(10):
        scene = make_scene(index)

        shown = np.zeros(scene.segments.shape, np.uint8)
        for number, outline in enumerate(scene.outlines):
            shown[outline] = number
        assert (shown == scene.segments).all()


@pytest.mark.parametrize("name", EXPORTS)
def test_export_is_read_by_pycocotools_with_its_images(exports: Path, name: str) -> None:
    coco = COCO(str(exports / "cvat" / name / "annotations" / "instances_default.json"))

    assert len(coco.imgs) == 6
    assert all((exports / "cvat" / name / "images" / entry["file_name"]).is_file() for entry in coco.imgs.values())
    full = [entry for entry in coco.anns.values() if entry["segmentation"]]
    assert all(coco.annToMask(entry).sum() == entry["area"] for entry in full)


def test_exports_have_people_s_faults(exports: Path) -> None:
    north, south = (annotations_of(exports, name) for name in EXPORTS)

    names = {category["id"]: category["name"] for category in north["categories"]}
    assert {entry["file_name"] for entry in north["images"]} == {entry["file_name"] for entry in south["images"]}
    assert {entry["id"] for entry in north["annotations"]} & {entry["id"] for entry in south["annotations"]}
    assert names.values() != {category["name"] for category in south["categories"]}
    assert any(entry["segmentation"] == [] for entry in north["annotations"])
    crowds = {names[entry["category_id"]] for entry in north["annotations"] if entry["iscrowd"]}
    assert crowds and crowds <= BRUSHED


def test_exports_have_things_that_overlap(exports: Path) -> None:
    content = annotations_of(exports, next(iter(EXPORTS)))

    gt = json.loads((exports / "ground_truth" / "panoptic.json").read_text())
    thing_ids = {category["id"] for category in gt["categories"] if category["name"] in THINGS}
    visible = sum(
        segment["area"]
        for entry in gt["annotations"]
        for segment in entry["segments_info"]
        if entry["file_name"].startswith(next(iter(EXPORTS))) and segment["category_id"] in thing_ids
    )
    assert sum(entry["area"] for entry in content["annotations"]) > visible


def test_ground_truth_is_what_its_json_says(exports: Path) -> None:
    gt = json.loads((exports / "ground_truth" / "panoptic.json").read_text())

    assert len(gt["images"]) == len(gt["annotations"]) == 12
    for entry in gt["annotations"]:
        ids, counts = np.unique(
            read_panoptic_png(str(exports / "ground_truth" / entry["file_name"])), return_counts=True
        )
        assert {segment["id"]: segment["area"] for segment in entry["segments_info"]} == dict(zip(ids, counts))


def test_exports_stay_out_of_folders_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")

    with pytest.raises(DatasetError, match="holds files"):
        write_yard_exports(tmp_path, images=1)

    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
