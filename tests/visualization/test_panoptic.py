"""Panoptic maps and instances drawn over an image, and where their labels stand."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from detr_d2.visualization import (
    draw_instances,
    draw_panoptic,
    draw_prediction,
)
from detr_d2.visualization.class_style import ClassStyle, class_style
from detr_d2.visualization.label_layout import place_labels, text_size

from detectron2.structures import Boxes, Instances


@pytest.mark.parametrize(("scale", "size"), [(1, (96, 120)), (4, (384, 480)), (0.5, (48, 60))])
def test_panoptic_image_has_the_scaled_size(scene: tuple, metadata: Any, scale: float, size: tuple[int, int]) -> None:
    drawn = draw_panoptic(*scene, metadata, scale)

    assert drawn.shape == (*size, 3)
    assert drawn.dtype == np.uint8


def test_panoptic_image_shows_the_colours_of_the_metadata_and_leaves_void_bare(scene: tuple, metadata: Any) -> None:
    drawn = draw_panoptic(*scene, metadata, 4).astype(int)

    # Away from borders and names: a mix of the grey image and the class's colour.
    assert drawn[30, 20, 2] - drawn[30, 20, 0] > 50  # sky: blue over red
    brick = drawn[4 * 82, 4 * 33]
    assert brick[0] - brick[1] > 50 and brick[0] - brick[2] > 50
    np.testing.assert_allclose(drawn[370, 475], 128, atol=2)


def test_panoptic_drawing_is_the_same_each_time_and_leaves_its_arguments_alone(scene: tuple, metadata: Any) -> None:
    image, ids, segments = scene
    before = image.copy(), ids.copy(), json.dumps(segments)

    first = draw_panoptic(image, torch.from_numpy(ids), segments, metadata, 2)
    second = draw_panoptic(image, ids, segments, metadata, 2)

    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(ids, before[1])
    assert json.dumps(segments) == before[2]


def test_panoptic_drawing_separates_neighbours_of_one_class(metadata: Any) -> None:
    ids = np.ones((60, 80), dtype=np.int32)
    ids[:, 40:] = 2
    segments = [{"id": i, "category_id": 0, "isthing": True} for i in (1, 2)]

    drawn = draw_panoptic(np.zeros((60, 80, 3), dtype=np.uint8), ids, segments, metadata, 4)

    assert drawn[10, 158:163].min(axis=-1).max() > 180, "a light line between them"
    assert drawn[10, 100].max() < 150


def test_panoptic_drawing_takes_a_image_without_segments(metadata: Any) -> None:
    image = np.full((40, 50, 3), 77, dtype=np.uint8)

    drawn = draw_panoptic(image, np.zeros((40, 50), dtype=np.int32), [], metadata)

    np.testing.assert_allclose(drawn.astype(int), 77, atol=1)


def test_panoptic_drawing_refuses_a_map_of_another_size(metadata: Any) -> None:
    with pytest.raises(ValueError, match="sizes must be equal"):
        draw_panoptic(np.zeros((4, 5, 3), dtype=np.uint8), np.zeros((5, 4), dtype=int), [], metadata)


def test_instances_below_the_score_are_not_drawn(metadata: Any) -> None:
    image = np.full((200, 300, 3), 100, dtype=np.uint8)
    instances = Instances((200, 300))
    instances.pred_boxes = Boxes(torch.tensor([[20.0, 60.0, 120.0, 150.0], [180.0, 60.0, 280.0, 150.0]]))
    instances.scores = torch.tensor([0.9, 0.4])
    instances.pred_classes = torch.tensor([0, 1])

    drawn = draw_instances(image, instances, metadata, scale=2, min_score=0.5)

    assert drawn.shape == (400, 600, 3)
    assert (drawn[:, :280] != 100).any()
    assert (drawn[:, 320:] == 100).all()


def test_prediction_without_a_mask_head_is_drawn_as_boxes(metadata: Any) -> None:
    empty = Instances((30, 40))
    empty.pred_boxes, empty.scores = Boxes(torch.zeros(0, 4)), torch.zeros(0)
    empty.pred_classes = torch.zeros(0, dtype=torch.int64)
    image = np.full((30, 40, 3), 9, dtype=np.uint8)

    np.testing.assert_allclose(draw_prediction(image, {"instances": empty}, metadata).astype(int), 9, atol=1)


def test_class_without_name_and_colour_is_its_number() -> None:
    style = class_style(SimpleNamespace(get=lambda key, default: default), 7, is_thing=True)

    assert style.name == "7"
    assert all(0 <= value <= 1 for value in style.color)


@pytest.mark.parametrize("color", [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0), (1, 1, 1)])
def test_text_colour_can_be_read_on_a_dark_ground(color: tuple[float, float, float]) -> None:
    red, green, blue = ClassStyle("x", color).text_color

    assert 0.7 < 0.299 * red + 0.587 * green + 0.114 * blue <= 1.001


def test_labels_stay_inside_and_do_not_cover_each_other() -> None:
    masks = [np.zeros((30, 40), dtype=bool) for _ in range(4)]
    masks[0][:2, :2] = masks[1][28:, 38:] = masks[2][10:30] = masks[3][10:30] = True

    places = place_labels(["corner"] * 2 + ["ground"] * 2, masks, 10, (300, 400), 14)

    rectangles = [place for place in places if place is not None]
    assert len(rectangles) == 4
    for i, one in enumerate(rectangles):
        assert one.left >= 0 and one.top >= 0 and one.right <= 400 and one.bottom <= 300
        assert all(one.overlap(other) == 0 for other in rectangles[:i])


def test_label_without_a_free_place_is_left_out() -> None:
    mask = np.ones((2, 8), dtype=bool)
    width, height = text_size("ground 99%", 14)

    places = place_labels(["ground 99%"] * 2, [mask, mask], 10, (int(height), int(width)), 14)

    assert places[0] is not None
    assert places[1] is None
