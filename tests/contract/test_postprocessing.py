"""``detector_postprocess`` brings boxes to the size of the original image."""

from __future__ import annotations

import torch

from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances


def make_instances() -> Instances:
    boxes = Boxes(torch.tensor([[10.0, 10.0, 20.0, 40.0], [90.0, -5.0, 130.0, 60.0], [110.0, 10.0, 120.0, 20.0]]))
    return Instances((50, 100), pred_boxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7]))


def test_postprocessed_boxes_are_scaled_and_clipped() -> None:
    result = detector_postprocess(make_instances(), 100, 300)

    expected = torch.tensor([[30.0, 20.0, 60.0, 80.0], [270.0, 0.0, 300.0, 100.0]])
    torch.testing.assert_close(result.pred_boxes.tensor, expected)
    assert result.image_size == (100, 300)


def test_postprocessed_boxes_outside_the_image_are_dropped_with_their_fields() -> None:
    result = detector_postprocess(make_instances(), 100, 300)

    torch.testing.assert_close(result.scores, torch.tensor([0.9, 0.8]))
    assert len(result) == 2
