"""The visualizer: Detectron2's interface, painted without matplotlib's figure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detr_d2.visualization import (
    PanopticVisualizer,
    draw_panoptic,
)
from detr_d2.visualization.visualizer import PaintedImage
from tests.visualization.made_scene import COLORS

from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.visualizer import Visualizer


def test_visualizer_is_detectron2s_and_paints_what_is_drawn_without_it(scene: tuple, metadata: Any) -> None:
    image, ids, segments = scene
    visualizer = PanopticVisualizer(image, metadata, scale=2.0)

    drawn = visualizer.draw_panoptic_seg_predictions(torch.from_numpy(ids), segments)

    assert isinstance(visualizer, Visualizer)
    assert drawn is visualizer.get_output()
    np.testing.assert_array_equal(drawn.get_image(), draw_panoptic(image, ids, segments, metadata, 2.0))
    assert (drawn.height, drawn.width, drawn.scale) == (96, 120, 2.0)


def test_visualizer_draws_over_what_it_has_drawn(scene: tuple, metadata: Any) -> None:
    image, ids, segments = scene
    plain = draw_panoptic(image, ids, segments, metadata).astype(int)
    visualizer = PanopticVisualizer(image, metadata)
    visualizer.draw_panoptic_seg(ids, segments)
    instances = Instances((96, 120), pred_boxes=Boxes(torch.tensor([[80.0, 60.0, 110.0, 90.0]])))
    instances.pred_classes = torch.tensor([1])

    over = visualizer.draw_instance_predictions(instances).get_image().astype(int)
    visualizer.draw_text("X", (10, 70), color="r")
    with_text = visualizer.get_output().get_image().astype(int)

    assert (over[90, 80:110] == COLORS[1]).all() and (over[88, 5:60] == plain[88, 5:60]).all()
    assert with_text.shape == over.shape and (with_text != over).any()
    assert (with_text[:, 20:] == over[:, 20:]).all(), "Detectron2's own strokes go over the painted ones"


@pytest.mark.parametrize(("height", "width", "scale"), [(69, 233, 1.0), (264, 305, 2.0), (65, 470, 1.7), (1, 1, 1.0)])
def test_painted_image_keeps_each_pixel_on_the_figure(height: int, width: int, scale: float) -> None:
    painted = PaintedImage(np.zeros((height, width, 3), np.uint8), scale)
    shape = painted.get_image().shape
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    painted.paint(pixels)

    has_axes = painted.ax.axison

    assert not has_axes
    np.testing.assert_array_equal(painted.get_image(), pixels)


def test_visualizer_draws_masks_the_small_ones_above(metadata: Any) -> None:
    masks = torch.zeros(2, 60, 80, dtype=torch.bool)
    masks[0, 40:50, 10:70] = True
    masks[1] = True
    instances = Instances(
        (60, 80), pred_masks=masks, pred_classes=torch.tensor([0, 1]), scores=torch.tensor([0.9, 0.8])
    )

    drawn = PanopticVisualizer(np.zeros((60, 80, 3), np.uint8), metadata, 4).draw_instance_predictions(instances)

    mixed = drawn.get_image()[4 * 48, 4 * 12]
    np.testing.assert_allclose(mixed, 0.55 * np.array(COLORS[0]), atol=2)


def test_visualizer_draws_dataset_dicts(dataset_dict: dict, scene: tuple, metadata: Any) -> None:
    image, ids, segments = scene
    known = [{key: value for key, value in segment.items() if key != "score"} for segment in segments]
    boxes = {"annotations": [{"bbox": [80, 60, 30, 30], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}]}

    of_map = PanopticVisualizer(image, metadata).draw_dataset_dict(dataset_dict).get_image()
    of_boxes = PanopticVisualizer(image, metadata).draw_dataset_dict(boxes).get_image()

    np.testing.assert_array_equal(of_map, draw_panoptic(image, ids, known, metadata))
    assert (of_boxes[90, 85:110] == COLORS[1]).all()


def test_visualizer_leaves_out_small_stuff_and_knows_categories_by_their_ids(metadata: Any) -> None:
    ids = np.full((60, 80), 2003)
    ids[:, 70:] = 3000
    metadata.set(label_divisor=1000, thing_dataset_id_to_contiguous_id={7: 0, 9: 1})
    image = np.full((60, 80, 3), 100, np.uint8)

    drawn = PanopticVisualizer(image, metadata).draw_panoptic_seg(ids, None, area_threshold=1000, alpha=1.0).get_image()

    assert (drawn[50:, 30:60] == COLORS[2]).all()
    assert (drawn[50:, 75:] == 100).all()


def test_visualizer_saves_whole_files(scene: tuple, metadata: Any, tmp_path: Path) -> None:
    drawn = PanopticVisualizer(scene[0], metadata).draw_panoptic_seg(*scene[1:])

    drawn.save(str(tmp_path / "drawn.png"))

    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "drawn.png")), drawn.get_image())


def test_visualizer_paints_without_opencv_and_says_what_needs_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['detectron2.utils.visualizer'] = None\n"
        "import numpy as np\n"
        "from types import SimpleNamespace\n"
        "from detr_d2.visualization import PanopticVisualizer\n"
        "nothing = SimpleNamespace(get=lambda key, default: default)\n"
        "visualizer = PanopticVisualizer(np.zeros((60, 80, 3), np.uint8), nothing)\n"
        "segments = [{'id': 1, 'category_id': 0, 'isthing': True}]\n"
        "assert visualizer.draw_panoptic_seg(np.ones((60, 80), int), segments).get_image().any()\n"
        "from detr_d2.errors import ConfigError\n"
        "for call in (lambda: visualizer.draw_text('X', (1, 1)), lambda: visualizer.output.ax):\n"
        "    try:\n        call()\n"
        "    except ConfigError as error:\n        print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("pip install opencv-python-headless") == 2
