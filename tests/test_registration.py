"""Registering datasets: from Python, from a config, under DETECTRON2_DATASETS; and what is said of bad ones."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from detr_d2.config import add_detr_config
from detr_d2.data import (
    categories_of,
    construction_categories,
    contiguous_order,
    dataset_metadata,
    register,
    register_from_config,
)
from detr_d2.data.catalogs import instances_file
from detr_d2.data.registration import builtin_entries, datasets_root, register_builtin
from detr_d2.errors import DatasetError, MissingFileError, UserError
from detr_d2.yard import STUFF, THINGS, write_yard

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.structures import BoxMode

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A dataset name that nothing has used."""
    return f"test_registration_{next(_numbers)}"


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    """A small yard dataset."""
    return write_yard(tmp_path / "yard", train=2, val=1, width=96, height=80)


def arguments(folder: Path) -> dict[str, Any]:
    """What ``register`` needs to know of a yard's training part."""
    return {
        "images": folder / "images",
        "panoptic_json": folder / "panoptic_train.json",
        "panoptic_root": folder / "panoptic",
        "instances_json": folder / "instances_train.json",
    }


def config(*entries: Any) -> CfgNode:
    """A config with these entries in DATASETS.REGISTER."""
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.DATASETS.REGISTER = list(entries)
    return cfg


def change(path: Path, edit: Callable[[Any], Any]) -> None:
    """Rewrite a JSON file with its content edited in place."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_metadata_follows_detectron2s_panoptic_convention(name: str, yard: Path) -> None:
    register(name, **arguments(yard))

    metadata = dataset_metadata(name)

    assert (metadata.thing_classes, metadata.stuff_classes) == ([*THINGS], [*THINGS, *STUFF])
    assert metadata.thing_colors == metadata.stuff_colors[:6]
    assert metadata.thing_dataset_id_to_contiguous_id == {5 + i: i for i in range(6)}
    assert metadata.stuff_dataset_id_to_contiguous_id == {1 + i: 6 + i for i in range(4)}
    assert (metadata.evaluator_type, metadata.ignore_label, metadata.label_divisor) == ("coco", 255, 1000)
    assert metadata.json_file == str(yard / "instances_train.json")
    assert metadata.panoptic_root == str(yard / "panoptic")


def test_registering_reads_no_file(name: str, tmp_path: Path) -> None:
    register(name, **arguments(tmp_path / "nowhere"))

    assert name in DatasetCatalog.list()


def test_dicts_are_complete_and_their_categories_contiguous(name: str, yard: Path) -> None:
    register(name, **arguments(yard))
    labels = json.loads((yard / "panoptic_train.json").read_text())

    dicts = get_detection_dataset_dicts([name])

    assert [Path(entry["file_name"]).name for entry in dicts] == [image["file_name"] for image in labels["images"]]
    for entry, annotation in zip(dicts, labels["annotations"]):
        assert (entry["width"], entry["height"], entry["image_id"]) == (96, 80, annotation["image_id"])
        assert os.path.isfile(entry["pan_seg_file_name"])
        for mine, theirs in zip(entry["segments_info"], annotation["segments_info"]):
            assert mine["isthing"] == (theirs["category_id"] >= 5)
            assert mine["category_id"] == (theirs["category_id"] - 5) % 10
            assert (mine["id"], mine["area"], mine["bbox"]) == (theirs["id"], theirs["area"], theirs["bbox"])


def test_categories_of_come_by_contiguous_id(name: str, yard: Path) -> None:
    register(name, **arguments(yard))

    categories = categories_of(name)

    assert [category.name for category in categories] == [*THINGS, *STUFF]
    assert [category.id for category in categories] == [5, 6, 7, 8, 9, 10, 1, 2, 3, 4]
    assert [category.is_thing for category in categories] == [True] * 6 + [False] * 4
    assert [list(category.color) for category in categories] == dataset_metadata(name).stuff_colors


def test_registering_twice_alike_is_fine(name: str, yard: Path) -> None:
    register(name, **arguments(yard))
    dataset_metadata(name)

    register(name, **arguments(yard))

    assert len(DatasetCatalog.get(name)) == 2


def test_registering_twice_differently_names_the_difference(name: str, yard: Path, tmp_path: Path) -> None:
    register(name, **arguments(yard))

    with pytest.raises(DatasetError, match=r"images=.*other"):
        register(name, **{**arguments(yard), "images": tmp_path / "other"})


def test_name_taken_by_another_program_is_refused(name: str, yard: Path) -> None:
    DatasetCatalog.register(name, lambda: [])

    with pytest.raises(DatasetError, match="another program"):
        register(name, **arguments(yard))


def test_unknown_name_offers_the_nearest(name: str) -> None:
    with pytest.raises(DatasetError, match=r"did you mean .*'construction_panoptic_train'"):
        dataset_metadata("construction_panoptik_train")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"panoptic_json": "a.json"}, "belong together"),
        ({"panoptic_root": "a"}, "belong together"),
        ({}, "no annotations"),
    ],
)
def test_missing_arguments_are_named(name: str, given: dict[str, str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        register(name, images="images", **given)


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


def _set(path: str, value: Any) -> Callable[[Any], None]:
    """An edit that puts ``value`` at a dotted path."""

    def edit(content: Any) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in parents:
            content = content[part]
        content[last] = value

    return edit


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


def test_known_categories_need_no_file_but_must_be_the_files(name: str, yard: Path) -> None:
    register(name, **{**arguments(yard), "instances_json": None}, categories=construction_categories())

    assert categories_of(name) == contiguous_order(construction_categories())
    with pytest.raises(DatasetError, match="stands for 64 known categories"):
        DatasetCatalog.get(name)


def test_config_mappings_start_at_the_working_directory(name: str, yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(yard)
    entry = {"name": name, "images": "images", "panoptic_json": "panoptic_val.json", "panoptic_root": "panoptic"}

    register_from_config(config(entry))

    assert len(DatasetCatalog.get(name)) == 1
    assert instances_file(name) == ""


def test_config_reads_register_yaml_with_paths_from_its_folder(name: str, yard: Path) -> None:
    entries = yaml.safe_load((yard / "register.yaml").read_text())
    assert [entry["name"] for entry in entries] == ["yard_train", "yard_val"]
    (yard / "register.yaml").write_text(yaml.safe_dump([{**entries[0], "name": name}]))

    register_from_config(config(str(yard / "register.yaml")))

    assert MetadataCatalog.get(name).image_root == str(yard / "images")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "x", "image": "a"}, r"REGISTER\[0\] has the key 'image' \(did you mean 'images'\?\)"),
        ({"name": "x"}, "has no 'images'"),
        ({"images": "x"}, "has no 'name'"),
        ({"name": "x", "images": ["a"]}, r"images=\['a'\]; it must be text"),
        (7, "must be a mapping"),
        ("nowhere.yaml", "nowhere.yaml isn't there"),
    ],
)
def test_wrong_config_entry_is_named(entry: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        register_from_config(config(entry))


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "can't be read"), ("a: 1", "must hold a list"), ("", "list")]
)
def test_wrong_register_yaml_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "register.yaml").write_text(content)

    with pytest.raises(DatasetError, match=message):
        register_from_config(config(str(tmp_path / "register.yaml")))


def test_boxes_come_from_coco_instances_alone(name: str, shared_data: Path) -> None:
    folder = shared_data / "tiny_coco_things"
    register(name, images=folder / "images", instances_json=folder / "instances.json")

    dicts = get_detection_dataset_dicts([name])

    annotations = [annotation for entry in dicts for annotation in entry["annotations"]]
    assert {annotation["bbox_mode"] for annotation in annotations} == {BoxMode.XYWH_ABS}
    assert sum(annotation["iscrowd"] for annotation in annotations) == 5
    assert dataset_metadata(name).evaluator_type == "coco"
    assert all(category.is_thing for category in categories_of(name))


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


def test_boxes_without_area_are_left_out_and_empty_segmentations_keep_their_box(name: str, yard: Path) -> None:
    path = yard / "instances_train.json"
    before = len(json.loads(path.read_text())["annotations"])
    change(path, _set("annotations.0.bbox", [4, 4, 0, 7]))
    change(path, _set("annotations.1.segmentation", []))
    register(name, images=yard / "images", instances_json=path)

    annotations = [annotation for entry in DatasetCatalog.get(name) for annotation in entry["annotations"]]

    assert len(annotations) == before - 1
    assert [("segmentation" in annotation) for annotation in annotations].count(False) == 1


def test_real_panoptic_data_is_read(name: str, shared_data: Path) -> None:
    folder = shared_data / "coco128_panoptic" / "val"
    register(name, folder / "images", folder / "panoptic.json", folder / "panoptic")

    dicts = DatasetCatalog.get(name)

    assert len(dicts) == 30
    assert sum(len(entry["segments_info"]) for entry in dicts) == 318
    assert len(dataset_metadata(name).stuff_classes) == 133
    assert len(dataset_metadata(name).thing_dataset_id_to_contiguous_id) == 80


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
