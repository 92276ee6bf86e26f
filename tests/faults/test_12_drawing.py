"""Drawings are exact to the pixel, the same on every backend, and need neither the Visualizer nor OpenCV."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detr_d2.visualization import draw_instances, draw_panoptic
from detr_d2.visualization.strokes import number_segments

from detectron2.structures import Boxes, Instances

COLORS = [(200, 40, 30), (60, 180, 200), (90, 160, 240)]
NAMES = ["brick", "pipe", "sky"]


@pytest.fixture
def metadata() -> SimpleNamespace:
    known = {"thing_classes": NAMES, "stuff_classes": NAMES, "thing_colors": COLORS, "stuff_colors": COLORS}
    return SimpleNamespace(get=known.get)


def test_every_pixel_away_from_borders_and_names_is_mixed_with_its_class(metadata: SimpleNamespace) -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    ids = np.zeros((300, 400), dtype=np.int32)
    ids[:150], ids[150:, :130], ids[150:, 130:260] = 7, 300_000, 5
    segments = [
        {"id": 300_000, "category_id": 0, "isthing": True, "score": 0.9},
        {"id": 7, "category_id": 2, "isthing": False, "score": 0.8},
        {"id": 5, "category_id": 1, "isthing": True, "score": 0.7},
    ]

    drawn = draw_panoptic(image, ids, segments, metadata)

    colors = {7: COLORS[2], 300_000: COLORS[0], 5: COLORS[1]}
    for number, color in colors.items():
        mixed = np.abs(drawn - (0.45 * image + 0.55 * np.array(color))).max(-1) <= 1
        assert mixed[ids == number].mean() > 0.85, "all but the name and the border"
    bare = (drawn == image).all(-1)[ids == 0]
    assert bare.mean() > 0.95


def test_segments_are_numbered_by_their_place() -> None:
    ids = np.random.default_rng(0).integers(-1, 12, (40, 50))
    segment_ids = [9, 2, 11, 5]

    numbers = number_segments(ids, segment_ids)

    assert all((numbers[ids == value] == segment_ids.index(value) + 1).all() for value in segment_ids)
    assert (numbers[~np.isin(ids, segment_ids)] == 0).all()
    assert (number_segments(ids, []) == 0).all()


def test_box_is_outlined_in_the_colour_of_its_class(metadata: SimpleNamespace) -> None:
    instances = Instances((200, 300))
    instances.pred_boxes = Boxes(torch.tensor([[20.0, 60.0, 120.0, 150.0]]))
    instances.scores, instances.pred_classes = torch.tensor([0.9]), torch.tensor([1])

    drawn = draw_instances(np.zeros((200, 300, 3), dtype=np.uint8), instances, metadata)

    assert (drawn[150, 25:115] == COLORS[1]).all() and (drawn[80:140, 20] == COLORS[1]).all()
    assert (drawn[100, 60] == 0).all(), "the inside stays bare"


def test_drawing_loads_neither_the_visualizer_nor_opencv() -> None:
    code = (
        "import sys, numpy as np; sys.modules['cv2'] = None\n"
        "from detr_d2.visualization import draw_panoptic\n"
        "from types import SimpleNamespace\n"
        "segments = [{'id': 1, 'category_id': 0, 'isthing': True}]\n"
        "nothing = SimpleNamespace(get=lambda key, default: default)\n"
        "drawn = draw_panoptic(np.zeros((60, 80, 3), np.uint8), np.ones((60, 80), int), segments, nothing)\n"
        "assert drawn.any()\n"
        "assert 'detectron2.utils.visualizer' not in sys.modules\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
