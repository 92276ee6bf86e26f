"""Registering datasets: from Python, from a config, under DETECTRON2_DATASETS; and what is said of bad ones."""

from __future__ import annotations

import json
import os
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
from detr_d2.errors import DatasetError, UserError
from detr_d2.yard import STUFF, THINGS
from tests.data.registering import _set, arguments, change

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.structures import BoxMode


def config(*entries: Any) -> CfgNode:
    """A config with these entries in DATASETS.REGISTER."""
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.DATASETS.REGISTER = list(entries)
    return cfg


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
