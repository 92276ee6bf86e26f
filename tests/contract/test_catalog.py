"""The catalogs of datasets and of what is known about them, and datasets in COCO's format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode

NAME = "contract_catalog"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in [name for name in catalog.list() if name.startswith(NAME)]:
            catalog.remove(name)


def test_dataset_is_loaded_when_asked_for() -> None:
    calls = []

    DatasetCatalog.register(NAME, lambda: calls.append(1) or [{"image_id": 1}])

    assert not calls
    assert NAME in DatasetCatalog and NAME in DatasetCatalog.list()
    assert DatasetCatalog.get(NAME) == [{"image_id": 1}]


def test_name_can_be_registered_once_until_it_is_removed() -> None:
    DatasetCatalog.register(NAME, list)

    with pytest.raises(AssertionError, match="already registered"):
        DatasetCatalog.register(NAME, list)
    DatasetCatalog.remove(NAME)
    DatasetCatalog.register(NAME, list)


def test_unknown_name_is_answered_with_the_known_ones() -> None:
    DatasetCatalog.register(NAME, list)

    with pytest.raises(KeyError, match=rf"contract_typo' is not registered! Available datasets are: .*{NAME}"):
        DatasetCatalog.get("contract_typo")


def test_registered_thing_must_be_callable() -> None:
    with pytest.raises(AssertionError, match="must register a function"):
        DatasetCatalog.register(NAME, [])


def test_metadata_is_one_object_for_a_name() -> None:
    metadata = MetadataCatalog.get(NAME)

    metadata.thing_classes = ["a", "b"]

    assert MetadataCatalog.get(NAME) is metadata
    assert metadata.name == NAME
    assert metadata.set(evaluator_type="coco") is metadata
    assert metadata.as_dict() == {"name": NAME, "thing_classes": ["a", "b"], "evaluator_type": "coco"}


def test_metadata_cannot_change_its_mind() -> None:
    metadata = MetadataCatalog.get(NAME).set(thing_classes=["a"])

    metadata.thing_classes = ["a"]

    with pytest.raises(AssertionError, match="cannot be set to a different value"):
        metadata.thing_classes = ["b"]
    with pytest.raises(AssertionError, match="cannot be set to a different value"):
        metadata.set(thing_classes=["b"])
    assert metadata.thing_classes == ["a"]


def test_absent_metadata_is_an_attribute_error_that_lists_what_there_is() -> None:
    metadata = MetadataCatalog.get(NAME)

    with pytest.raises(AttributeError, match="metadata is empty"):
        metadata.thing_classes  # noqa: B018
    metadata.stuff_classes = ["sky"]
    with pytest.raises(AttributeError, match=rf"'thing_classes' does not exist .* '{NAME}'.*stuff_classes"):
        metadata.thing_classes  # noqa: B018
    assert metadata.get("thing_classes") is None
    assert metadata.get("thing_classes", ["x"]) == ["x"]
    assert not hasattr(metadata, "thing_classes")


def register(name: str, *annotations: list[dict[str, Any]]) -> None:
    records = [{"image_id": index, "annotations": entries} for index, entries in enumerate(annotations)]
    DatasetCatalog.register(name, lambda: records)


def test_dataset_dicts_leave_out_images_without_usable_annotations() -> None:
    thing, crowd = {"category_id": 0}, {"category_id": 0, "iscrowd": 1}
    register(NAME, [thing], [], [crowd], [crowd, thing])

    assert [record["image_id"] for record in get_detection_dataset_dicts(NAME)] == [0, 3]
    assert [record["image_id"] for record in get_detection_dataset_dicts([NAME], filter_empty=False)] == [0, 1, 2, 3]


def test_dataset_dicts_without_annotations_are_all_kept() -> None:
    DatasetCatalog.register(NAME, lambda: [{"image_id": 1, "segments_info": []}, {"image_id": 2}])

    assert [record["image_id"] for record in get_detection_dataset_dicts([NAME])] == [1, 2]


def test_dataset_dicts_join_datasets_in_order() -> None:
    register(NAME, [{"category_id": 0}])
    DatasetCatalog.register(f"{NAME}_2", lambda: [{"image_id": 7, "annotations": [{"category_id": 0}]}])

    assert [record["image_id"] for record in get_detection_dataset_dicts([NAME, f"{NAME}_2"])] == [0, 7]


def test_datasets_of_different_classes_do_not_mix() -> None:
    for name, classes in ((NAME, ["a"]), (f"{NAME}_2", ["b"])):
        register(name, [{"category_id": 0}])
        MetadataCatalog.get(name).thing_classes = classes

    with pytest.raises(ValueError, match="different metadata 'thing_classes'"):
        get_detection_dataset_dicts([NAME, f"{NAME}_2"])


def test_empty_datasets_are_refused() -> None:
    DatasetCatalog.register(NAME, list)
    register(f"{NAME}_2", [])

    with pytest.raises(AssertionError, match=f"'{NAME}' is empty"):
        get_detection_dataset_dicts([NAME])
    with pytest.raises(AssertionError, match="No valid data found"):
        get_detection_dataset_dicts([f"{NAME}_2"])
    with pytest.raises(AssertionError):
        get_detection_dataset_dicts([])
    with pytest.raises(KeyError, match="not registered"):
        get_detection_dataset_dicts(["contract_typo"])


def write_coco(path: Path, annotations: list[dict[str, Any]]) -> str:
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg", "height": 4, "width": 6} for number in (9, 3)],
        "categories": [{"id": 7, "name": "cone"}, {"id": 2, "name": "brick"}],
        "annotations": [{"iscrowd": 0, "area": 4, "bbox": [1, 1, 2, 2], **entry} for entry in annotations],
    }
    path.write_text(json.dumps(content))
    return str(path)


def test_coco_instances_become_detectron2_dicts(tmp_path: Path) -> None:
    square = [1, 1, 3, 1, 3, 3, 1, 3]
    runs = {"size": [4, 6], "counts": [4, 2, 18]}
    path = write_coco(
        tmp_path / "a.json",
        [
            {"id": 1, "image_id": 9, "category_id": 7, "segmentation": [square, [1, 1, 2, 2]]},
            {"id": 2, "image_id": 9, "category_id": 2, "segmentation": runs, "iscrowd": 1},
            {"id": 3, "image_id": 9, "category_id": 2, "segmentation": [[1, 1, 2, 2]]},
        ],
    )

    register_coco_instances(NAME, {"extra": 1}, path, "folder")
    records = DatasetCatalog.get(NAME)

    metadata = MetadataCatalog.get(NAME)
    assert metadata.thing_classes == ["brick", "cone"]
    assert metadata.thing_dataset_id_to_contiguous_id == {2: 0, 7: 1}
    assert (metadata.json_file, metadata.image_root, metadata.evaluator_type, metadata.extra) == (
        path,
        "folder",
        "coco",
        1,
    )
    assert [record["image_id"] for record in records] == [3, 9]
    assert records[0] == {"file_name": "folder/3.jpg", "height": 4, "width": 6, "image_id": 3, "annotations": []}
    first, second = records[1]["annotations"]
    assert first == {
        "iscrowd": 0,
        "bbox": [1, 1, 2, 2],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 1,
        "segmentation": [square],
    }
    assert second["iscrowd"] == 1 and isinstance(second["segmentation"]["counts"], bytes)


def test_coco_annotations_must_agree_with_the_file(tmp_path: Path) -> None:
    wrong_category = write_coco(tmp_path / "a.json", [{"id": 1, "image_id": 9, "category_id": 5}])
    same_id = write_coco(tmp_path / "b.json", [{"id": 1, "image_id": 9, "category_id": 2}] * 2)
    register_coco_instances(NAME, {}, wrong_category, "")
    register_coco_instances(f"{NAME}_2", {}, same_id, "")

    with pytest.raises(KeyError, match="category_id=5"):
        DatasetCatalog.get(NAME)
    with pytest.raises(AssertionError, match="not unique"):
        DatasetCatalog.get(f"{NAME}_2")


def test_real_coco_instances_load(shared_data: Path) -> None:
    files = sorted(shared_data.glob("*/**/instances*.json"))
    if not files:
        pytest.skip(f"no instances*.json under {shared_data}")

    for index, path in enumerate(files):
        register_coco_instances(f"{NAME}_{index}", {}, str(path), str(path.parent))
        records = DatasetCatalog.get(f"{NAME}_{index}")
        classes = MetadataCatalog.get(f"{NAME}_{index}").thing_classes
        ids = {entry["category_id"] for record in records for entry in record["annotations"]}
        assert records and ids <= set(np.arange(len(classes)).tolist())
