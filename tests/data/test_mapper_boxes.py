"""The mapper with COCO instances: boxes, and masks where all have polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from detr_d2.data import register
from tests.data.made_samples import make_mapper

from detectron2.data import DatasetCatalog
from detectron2.structures import BoxMode


def box_sample(sample: dict[str, Any], **segmentation: Any) -> dict[str, Any]:
    """The sample with COCO instances instead of a panoptic PNG."""
    kept = {key: sample[key] for key in ("file_name", "image_id", "width", "height")}
    annotation = {"bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0, "category_id": 2}
    return {
        **kept,
        "annotations": [
            {**annotation, "bbox": [4.0, 10.0, 5.0, 8.0], **segmentation},
            {**annotation, "bbox": [0.0, 0.0, 30.0, 20.0], "iscrowd": 1},
        ],
    }


def test_boxes_come_from_annotations_without_crowds(sample: dict[str, Any]) -> None:
    instances = make_mapper()(box_sample(sample))["instances"]

    assert instances.gt_boxes.tensor.tolist() == [[4, 10, 9, 18]]
    assert instances.gt_classes.tolist() == [2]
    assert not instances.has("gt_masks")


def test_masks_come_from_polygons_where_all_have_them(sample: dict[str, Any]) -> None:
    polygon = [[4.0, 10.0, 9.0, 10.0, 9.0, 18.0, 4.0, 18.0]]

    instances = make_mapper()(box_sample(sample, segmentation=polygon))["instances"]

    assert instances.gt_masks.tensor.shape == (1, 20, 30)
    assert int(instances.gt_masks.tensor.sum()) == 40


def test_polygons_are_cropped_with_the_image(sample: dict[str, Any]) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[10:18, 8:22] = 255
    Image.fromarray(pixels).save(sample["file_name"])
    entry = box_sample(sample, segmentation=[[8.0, 10.0, 22.0, 10.0, 22.0, 18.0, 8.0, 18.0]])
    entry["annotations"][0]["bbox"] = [8.0, 10.0, 14.0, 8.0]
    changes = {"INPUT__DETR_CROP__ENABLED": True, "INPUT__DETR_CROP__PROB": 1.0, "INPUT__DETR_CROP__RESIZE_SIZES": []}
    mapper = make_mapper(**changes, INPUT__DETR_CROP__MIN_SIZE=12, INPUT__DETR_CROP__MAX_SIZE=20)
    np.random.seed(0)

    results = [mapper(entry) for _ in range(20)]

    seen = [result for result in results if (result["image"] == 255).any()]
    assert len({tuple(result["image"].shape) for result in seen}) > 5
    for result in seen:
        torch.testing.assert_close(result["instances"].gt_masks.tensor[0], result["image"][0] == 255)


def test_image_with_crowds_only_has_empty_targets(sample: dict[str, Any]) -> None:
    entry = box_sample(sample)
    entry["annotations"] = entry["annotations"][1:]

    instances = make_mapper()(entry)["instances"]

    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_classes.shape == (0,)


def test_real_boxes_agree_with_their_json(shared_data: Path) -> None:
    folder = shared_data / "tiny_coco_things"
    register("test_mapper_tiny", images=folder / "images", instances_json=folder / "instances.json")
    mapper = make_mapper()

    for entry in DatasetCatalog.get("test_mapper_tiny"):
        instances = mapper(entry)["instances"]
        boxes = np.array([a["bbox"] for a in entry["annotations"] if not a["iscrowd"]]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(instances.gt_boxes.tensor.numpy(), boxes, atol=1e-3)
