"""Yard scenes and their files: what they promise to a trainer and to a person."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from detr_d2.cli import main
from detr_d2.data import yard_dataset
from detr_d2.data.yard import MIN_VISIBLE_AREA, STUFF, THINGS, make_scene
from detr_d2.data.yard_dataset import write_yard
from detr_d2.errors import DatasetError, run_command


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A yard of 12 training and 4 validation scenes."""
    return write_yard(tmp_path_factory.mktemp("yards") / "yard", train=12, val=4)


def fingerprints(folder: Path) -> dict[str, str]:
    """Hash of each file by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@given(st.integers(0, 10_000), st.sampled_from([(160, 128), (96, 80), (200, 64)]))
@settings(max_examples=25, deadline=None)
def test_scene_keeps_its_promises(index: int, size: tuple[int, int]) -> None:
    width, height = size

    scene = make_scene(index, "train", 1, width, height)

    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    assert scene.segments.shape == (height, width)
    assert scene.names[:2] == ["sky", "ground"]
    assert all(scene.names.count(name) <= 1 for name in STUFF)
    assert set(scene.names) <= {*STUFF, *THINGS}
    areas = np.bincount(scene.segments.ravel(), minlength=len(scene.names))
    assert len(areas) == len(scene.names)
    things = [area for name, area in zip(scene.names, areas) if name in THINGS]
    assert all(area >= MIN_VISIBLE_AREA * width * height for area in things)
    assert len(things) <= 8


def test_scenes_are_the_same_again_and_differ_by_index_split_and_seed() -> None:
    first = make_scene(3, "train", 0)

    again = make_scene(3, "train", 0)
    others = [make_scene(4, "train", 0), make_scene(3, "val", 0), make_scene(3, "train", 1)]

    assert (first.image == again.image).all()
    assert (first.segments == again.segments).all()
    assert first.names == again.names
    assert all((first.image != other.image).mean() > 0.5 for other in others)


def test_scenes_show_every_category_and_several_of_a_kind() -> None:
    scenes = [make_scene(index) for index in range(25)]

    assert {name for scene in scenes for name in scene.names} == {*STUFF, *THINGS}
    assert sum(any(scene.names.count(name) > 1 for name in THINGS) for scene in scenes) > 12
    assert 3 < np.mean([sum(name in THINGS for name in scene.names) for scene in scenes]) < 7


def test_most_things_are_12_to_60_pixels_wide() -> None:
    widths = []
    for index in range(25):
        scene = make_scene(index)
        for number, name in enumerate(scene.names):
            if name in THINGS:
                columns = np.flatnonzero((scene.segments == number).any(axis=0))
                widths.append(columns[-1] - columns[0] + 1)

    assert np.quantile(widths, 0.1) >= 12
    assert np.quantile(widths, 0.9) <= 60


def test_things_stand_out_from_the_ground_by_colour() -> None:
    drums, ground = [], []
    for index in range(40):
        scene = make_scene(index)
        for number, name in enumerate(scene.names):
            if name in ("drum", "ground") and (scene.segments == number).any():
                mean = scene.image[scene.segments == number].mean(axis=0)
                (drums if name == "drum" else ground).append(mean[2] - mean[0])

    assert np.quantile(drums, 0.05) > np.quantile(ground, 0.95) + 20


@pytest.mark.parametrize("size", [(63, 128), (160, 47), (4096, 128)])
def test_senseless_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"size {size[0]}x{size[1]}; allowed are 64x48 to 2048x2048"):
        make_scene(0, width=size[0], height=size[1])


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split='test'"):
        make_scene(0, "test")


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
    pictures: dict[str, set[str]] = {"train": set(), "val": set()}
    for path in (yard / "images").iterdir():
        pictures[path.name.split("_")[1]].add(hashlib.sha256(path.read_bytes()).hexdigest())

    assert (len(pictures["train"]), len(pictures["val"])) == (12, 4)
    assert not pictures["train"] & pictures["val"]


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

    monkeypatch.setattr(yard_dataset, "make_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        write_yard(folder, train=2, val=1, width=96, height=80, seed=1)

    assert [path.name for path in tmp_path.iterdir()] == ["yard"]
    assert fingerprints(folder) == before


def test_command_writes_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["yard", str(tmp_path / "yard"), "--train", "2", "--val", "1", "--size", "96x80", "--seed", "5"])

    assert code == 0
    assert "2 training and 1 validation scenes of 96x80" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "yard").iterdir()) == [
        "images",
        "instances_train.json",
        "instances_val.json",
        "panoptic",
        "panoptic_train.json",
        "panoptic_val.json",
        "register.yaml",
        "yard.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "160"], "'160' isn't a size; write WIDTHxHEIGHT"),
        (["--size", "10x10"], "10x10 is outside of what is allowed: 64x48 to 2048x2048"),
        (["--size", "-5x10"], "isn't a size|expected one argument"),
        (["--train", "0"], "'0' isn't a whole number from 1"),
        (["--val", "many"], "'many' isn't a whole number"),
        (["--seed", "-1"], "isn't a whole number|expected one argument"),
    ],
)
def test_command_refuses_wrong_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["yard", str(tmp_path / "yard"), *arguments])

    assert caught.value.code == 2
    complaint = capsys.readouterr().err
    assert any(part in complaint for part in message.split("|"))
    assert not (tmp_path / "yard").exists()


def test_command_names_a_parent_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")

    code = run_command(lambda: main(["yard", str(tmp_path / "file" / "yard"), "--train", "1", "--val", "1"]))

    assert code == 2
    assert "can't be written" in capsys.readouterr().err
