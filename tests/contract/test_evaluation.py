"""Evaluators: the same promises on the fallback and on Detectron2; numbers recorded from Detectron2 0.6."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from detectron2.structures import Boxes, Instances

METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
SIZE = 200
#: Three images with boxes (x, y, w, h), classes and crowds.
GT = {
    1: [((10, 10, 60, 40), 3, 0), ((100, 20, 20, 20), 8, 0), ((20, 120, 150, 70), 3, 1)],
    2: [((5, 5, 120, 100), 8, 0), ((130, 130, 30, 30), 3, 0)],
    3: [((50, 50, 100, 100), 3, 0)],
}
#: Recorded from Detectron2 0.6 (pycocotools 2.0.11): all predictions 4 pixels too far right, and a false one an image.
_AP = {"AP": 70.0990099, "AP50": 100.0, "AP75": 75.2475248, "APs": 50.0, "APm": 80.0, "APl": 90.0}
RECORDED = {task: {**_AP, "AP-cone": 74.950495, "AP-drum": 65.2475248} for task in ("bbox", "segm")}


def mask_of(box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    mask[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = 1
    return mask


@pytest.fixture
def dataset(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A name whose metadata says where its COCO json is."""
    annotations = []
    for image_id, boxes in GT.items():
        for (x, y, w, h), label, crowd in boxes:
            polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, "category_id": label, "area": w * h})
            annotations[-1].update(bbox=[x, y, w, h], iscrowd=crowd, segmentation=polygon)
            if crowd:
                columns = mask_of((x, y, w, h)).flatten(order="F")
                changes = np.flatnonzero(np.diff(np.concatenate([[0], columns])))
                counts = np.diff(np.concatenate([[0], changes, [columns.size]])).tolist()
                annotations[-1]["segmentation"] = {"size": [SIZE, SIZE], "counts": counts}
    images = [{"id": i, "file_name": f"{i}.jpg", "height": SIZE, "width": SIZE} for i in GT]
    categories = [{"id": 3, "name": "cone"}, {"id": 8, "name": "drum"}]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    name = f"evaluation/{request.node.name}"
    MetadataCatalog.get(name).set(
        json_file=str(tmp_path / "gt.json"),
        thing_classes=["cone", "drum"],
        thing_dataset_id_to_contiguous_id={3: 0, 8: 1},
    )
    return name


class Model(torch.nn.Module):
    """Returns the ground truth, ``shift`` pixels off, with one false box."""

    def __init__(self, shift: int = 0, with_masks: bool = True) -> None:
        super().__init__()
        self.shift, self.with_masks = shift, with_masks
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, inputs: list[dict]) -> list[dict]:
        self.seen.append((self.training, torch.is_grad_enabled()))
        return [{"instances": self.predict(image["image_id"])} for image in inputs]

    def predict(self, image_id: int) -> Instances:
        found = [((x + self.shift, y, w, h), label) for (x, y, w, h), label, _ in GT[image_id]]
        found.append(((150, 5, 40, 10), 3))
        instances = Instances((SIZE, SIZE))
        boxes = torch.tensor([box for box, _ in found], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        instances.pred_boxes = Boxes(boxes)
        instances.scores = torch.tensor([0.9 - 0.1 * number for number in range(len(found))])
        instances.pred_classes = torch.tensor([{3: 0, 8: 1}[label] for _, label in found])
        if self.with_masks:
            instances.pred_masks = torch.from_numpy(np.stack([mask_of(box) for box, _ in found]) > 0)
        return instances


LOADER = [[{"image_id": 1}, {"image_id": 2}], [{"image_id": 3}]]


def test_coco_evaluator_gives_recorded_numbers(dataset: str, tmp_path: Path) -> None:
    results = inference_on_dataset(Model(shift=4), LOADER, COCOEvaluator(dataset, output_dir=str(tmp_path / "out")))

    assert list(results) == ["bbox", "segm"]
    for task, recorded in RECORDED.items():
        assert list(results[task]) == [*METRICS, "AP-cone", "AP-drum"]
        assert results[task] == pytest.approx(recorded, abs=1e-6, nan_ok=True)
    written = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert len(written) == 9 and {found["category_id"] for found in written} == {3, 8}
    assert written[0]["bbox"] == [14, 10, 60, 40] and written[0]["segmentation"]["size"] == [SIZE, SIZE]


def test_coco_evaluator_tasks_follow_the_predictions_or_the_argument(dataset: str) -> None:
    assert list(inference_on_dataset(Model(with_masks=False), LOADER, COCOEvaluator(dataset))) == ["bbox"]
    assert list(inference_on_dataset(Model(), LOADER, COCOEvaluator(dataset, tasks=("bbox",)))) == ["bbox"]


def test_coco_evaluator_without_predictions(dataset: str) -> None:
    evaluator = COCOEvaluator(dataset, tasks=("bbox",))
    evaluator.reset()
    assert evaluator.evaluate() == {}

    nothing = Model().predict(1)[torch.zeros(0, dtype=torch.long)]
    evaluator.process([{"image_id": 1}], [{"instances": nothing}])
    results = evaluator.evaluate()

    assert list(results["bbox"]) == METRICS and all(math.isnan(value) for value in results["bbox"].values())


class Counting(DatasetEvaluator):
    def __init__(self, key: str) -> None:
        self.key = key

    def reset(self) -> None:
        self.count = 0

    def process(self, inputs: list[Any], outputs: list[Any]) -> None:
        self.count += len(outputs)

    def evaluate(self) -> dict[str, Any]:
        return {self.key: {"count": self.count}}


def test_inference_runs_in_eval_mode_without_gradients() -> None:
    model = Model().train()

    results = inference_on_dataset(model, LOADER, Counting("a"))

    assert results == {"a": {"count": 3}} and model.training
    assert model.seen == [(False, False)] * 2


def test_several_evaluators_are_one(dataset: str) -> None:
    together = [Counting("a"), Counting("b")]

    assert inference_on_dataset(Model(), LOADER, together) == {"a": {"count": 3}, "b": {"count": 3}}
    assert inference_on_dataset(Model(), LOADER, DatasetEvaluators(together)) == {"a": {"count": 3}, "b": {"count": 3}}
    assert inference_on_dataset(Model(), LOADER, None) == {}


def test_evaluators_with_the_same_key_are_refused() -> None:
    with pytest.raises(AssertionError):
        inference_on_dataset(Model(), LOADER, DatasetEvaluators([Counting("a"), Counting("a")]))


def test_csv_lines_leave_classes_out(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("detectron2", "detectron2.evaluation.testing"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    caplog.set_level(logging.INFO)

    print_csv_format({"bbox": {"AP": 12.34567, "AP50": 50.0, "AP-cone": 1.0}})

    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["copypaste: Task: bbox", "copypaste: AP,AP50", "copypaste: 12.3457,50.0000"]


def test_results_are_verified_within_their_tolerance() -> None:
    cfg = get_cfg()
    assert verify_results(cfg, {})
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 40.0, 0.5]]

    assert verify_results(cfg, {"bbox": {"AP": 40.4}})
    for wrong in ({"AP": 40.6}, {"AP": math.nan}, {}):
        with pytest.raises(SystemExit):
            verify_results(cfg, {"bbox": wrong})
