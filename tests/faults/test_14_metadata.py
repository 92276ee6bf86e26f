"""What Detectron2's evaluators, visualizer and notebooks ask of a dataset's metadata is there, or says why not."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detr_d2.backend import backend_report
from detr_d2.data import dataset_metadata, register
from detr_d2.errors import DatasetError, MissingFileError

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import Visualizer

THINGS = ["brick_stack", "pipe", "drum", "plank", "cone", "crate"]
_count = itertools.count()


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"metadata_{next(_count)}"
    yield chosen
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.pop(chosen, None)


def places(yard: Path, **changes: Any) -> dict[str, Any]:
    """The arguments of ``register`` for the yard's validation images."""
    known = {"images": yard / "images", "panoptic_json": yard / "panoptic_val.json", "panoptic_root": yard / "panoptic"}
    return known | {"instances_json": yard / "instances_val.json"} | changes


def judged(evaluator: Any, records: list[dict[str, Any]], gt: dict[str, Any]) -> dict[str, Any]:
    """What an evaluator says of predictions that are the ground truth."""
    evaluator.reset()
    to_contiguous = evaluator._metadata.thing_dataset_id_to_contiguous_id
    for record in records:
        own = [a for a in gt["annotations"] if a["image_id"] == record["image_id"]]
        found = Instances((record["height"], record["width"]))
        boxes = torch.tensor([a["bbox"] for a in own]).reshape(-1, 4)
        found.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1))
        found.scores = torch.ones(len(own))
        found.pred_classes = torch.tensor([to_contiguous[a["category_id"]] for a in own], dtype=torch.int64)
        evaluator.process([record], [{"instances": found}])
    return evaluator.evaluate()


def test_cocos_evaluator_works_at_once_and_names_each_class(name: str, yard_folder: Path) -> None:
    register(name, **places(yard_folder))
    gt = json.loads((yard_folder / "instances_val.json").read_text())

    evaluator = COCOEvaluator(name)

    results = judged(evaluator, DatasetCatalog.get(name), gt)["bbox"]
    present = {c["name"] for c in gt["categories"] if c["id"] in {a["category_id"] for a in gt["annotations"]}}
    assert results["AP"] > 99
    assert {
        key.removeprefix("AP-") for key, value in results.items() if key.startswith("AP-") and value > 99
    } == present


def test_names_are_there_before_anything_has_been_read(name: str, yard_folder: Path) -> None:
    register(name, **places(yard_folder))

    metadata = MetadataCatalog.get(name)

    content = json.loads((yard_folder / "panoptic_val.json").read_text())
    assert metadata.thing_classes == [c["name"] for c in content["categories"] if c["isthing"]]
    assert set(metadata.stuff_classes) == {c["name"] for c in content["categories"]}
    assert metadata.evaluator_type == "coco"
    assert metadata is dataset_metadata(name)


def test_what_nobody_knows_is_absent_as_in_any_metadata(name: str, yard_folder: Path) -> None:
    register(name, **places(yard_folder))
    metadata = MetadataCatalog.get(name)

    assert not hasattr(metadata, "keypoint_names")
    assert metadata.get("keypoint_names") is None
    with pytest.raises(AttributeError, match="keypoint_names"):
        _ = metadata.keypoint_names


def test_metadata_can_be_copied_and_pickled(name: str, yard_folder: Path) -> None:
    register(name, **places(yard_folder))
    metadata = MetadataCatalog.get(name)

    for copied in (copy.deepcopy(metadata), pickle.loads(pickle.dumps(metadata))):
        assert copied.thing_classes == metadata.thing_classes


def test_registering_still_reads_no_file_and_asking_names_the_missing_one(name: str, tmp_path: Path) -> None:
    register(name, **places(tmp_path / "nowhere"))

    with pytest.raises(MissingFileError, match=r"panoptic_val\.json"):
        _ = MetadataCatalog.get(name).thing_classes


@pytest.mark.parametrize("kind", ["absent", "more classes", "another order"])
def test_cocos_evaluator_says_what_it_lacks(kind: str, name: str, yard_folder: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"instances_json": None}
    if kind == "more classes":
        content = json.loads((yard_folder / "instances_val.json").read_text())
        content["categories"].append({"id": 99, "name": "crane"})
        (tmp_path / "instances.json").write_text(json.dumps(content))
        changes = {"instances_json": tmp_path / "instances.json"}
    if kind == "another order":
        content = json.loads((yard_folder / "panoptic_val.json").read_text())
        content["categories"].reverse()
        (tmp_path / "panoptic.json").write_text(json.dumps(content))
        changes = {"panoptic_json": tmp_path / "panoptic.json"}
    register(name, **places(yard_folder, **changes))

    with pytest.raises(DatasetError, match=r"COCOEvaluator.*detr_d2\.evaluation\.build_evaluator"):
        COCOEvaluator(name, output_dir=str(tmp_path))


@pytest.mark.skipif(backend_report().name != "installed", reason="COCOPanopticEvaluator is Detectron2's alone")
def test_cocos_panoptic_evaluator_works_at_once(name: str, yard_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("panopticapi")
    from detr_d2.data import read_panoptic_png

    from detectron2.evaluation import COCOPanopticEvaluator

    register(name, **places(yard_folder))
    evaluator = COCOPanopticEvaluator(name, str(tmp_path))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        ids = read_panoptic_png(record["pan_seg_file_name"]).astype(np.int32)
        segments = [{k: s[k] for k in ("id", "category_id", "isthing")} for s in record["segments_info"]]
        evaluator.process([record], [{"panoptic_seg": (torch.from_numpy(ids), segments)}])

    assert evaluator.evaluate()["panoptic_seg"]["PQ"] == pytest.approx(100)


def test_visualizer_takes_metadata_and_results(name: str, yard_folder: Path) -> None:
    register(name, **places(yard_folder))
    metadata = MetadataCatalog.get(name)
    stuff = metadata.stuff_dataset_id_to_contiguous_id
    ids = torch.ones(60, 80, dtype=torch.int32)
    ids[30:] = 2
    segments = [
        {"id": 1, "category_id": 5, "isthing": True, "score": 0.9},
        {"id": 2, "category_id": max(stuff.values()), "isthing": False, "score": 0.8},
    ]

    drawn = Visualizer(np.zeros((60, 80, 3), np.uint8), metadata).draw_panoptic_seg(ids, segments)

    assert drawn.get_image().any()
