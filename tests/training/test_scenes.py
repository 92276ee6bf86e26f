"""The validation scenes of TensorBoard: the same ones, whatever ground truth they have; no training stops for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detr_d2.data import dataset_metadata, register_from_config
from detr_d2.training.evaluators import MAX_WIDTH, SceneEvaluator
from detr_d2.visualization import draw_side_by_side

from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.events import EventStorage


@pytest.fixture
def records(tiny_config) -> list[dict]:
    """The images of yard_val."""
    register_from_config(tiny_config())
    return DatasetCatalog.get("yard_val")


def _empty_map(record: dict) -> dict:
    return {"panoptic_seg": (torch.zeros(record["height"], record["width"], dtype=torch.int32), [])}


class Storage(EventStorage):
    """Remembers images."""

    def put_image(self, img_name, img_tensor) -> None:
        self.kept = [*getattr(self, "kept", []), (img_name, img_tensor)]


def _shown(evaluator: SceneEvaluator, records: list[dict]) -> list[tuple[str, np.ndarray]]:
    with Storage() as storage:
        for record in records:
            evaluator.process([record], [_empty_map(record)])
        evaluator.evaluate()
    return getattr(storage, "kept", [])


def test_scenes_are_spread_over_the_dataset_and_come_in_its_order(records):
    shown = _shown(SceneEvaluator("yard_val", 2), records[::-1])

    assert [name for name, _ in shown] == ["yard_val/00 (image 1)", "yard_val/01 (image 3)"]
    for _, image in shown:
        assert image.dtype == np.uint8 and image.shape[0] == 3 and image.shape[2] <= MAX_WIDTH


def test_more_scenes_than_images_are_all_images(records):
    assert len(_shown(SceneEvaluator("yard_val", 100), records)) == len(records)


def test_scenes_of_an_evaluation_are_forgotten_after_it(records):
    evaluator = SceneEvaluator("yard_val", 1)
    _shown(evaluator, records)

    assert _shown(evaluator, []) == []


def test_scene_whose_ground_truth_is_not_there_does_not_stop_a_training(records, caplog):
    evaluator = SceneEvaluator("yard_val", 2)
    evaluator._records[records[0]["image_id"]]["pan_seg_file_name"] = "no/such.png"

    shown = _shown(evaluator, records)

    assert [name for name, _ in shown] == ["yard_val/00 (image 3)"]
    assert "can't be drawn" in caplog.text and "no/such.png" in caplog.text


def test_ground_truth_of_boxes_only_is_drawn_without_scores(records):
    record = {name: records[0][name] for name in ("file_name", "image_id", "height", "width")}
    box = {"bbox": [10, 20, 60, 40], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    found = Instances((record["height"], record["width"]))
    found.pred_boxes, found.scores, found.pred_classes = Boxes(torch.zeros(0, 4)), torch.zeros(0), torch.zeros(0)

    metadata = dataset_metadata("yard_val")
    with_box = draw_side_by_side(record | {"annotations": [box]}, {"instances": found}, metadata)
    with_crowd = draw_side_by_side(record | {"annotations": [box | {"iscrowd": 1}]}, {"instances": found}, metadata)

    third = with_box.shape[1] // 3
    changed = np.nonzero((with_box != with_crowd).any(axis=(0, 2)))[0]
    assert third < changed.min() and changed.max() < 2 * third + 16
