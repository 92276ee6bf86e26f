"""Copy-paste: things of another image in front of this one's, with targets that are the pixels'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_d2.data import register_from_config
from detr_d2.data.mixing import paste_by_chance, paste_things
from detr_d2.data.segments import LabelledImage
from detr_d2.data.train_loader import build_train_mapper
from detr_d2.errors import ConfigError
from tests.made_scenes import scenes

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

PARTS = st.floats(0, 1)


def thing(category: int = 0, **more: int) -> dict[str, int | bool]:
    return {"category_id": category, "isthing": True, "iscrowd": 0, **more}


def plain(numbers: list[list[int]], segments: list[dict[str, int | bool]], color: int = 0) -> LabelledImage:
    labels = np.array(numbers, np.uint8)
    return LabelledImage(np.full((*labels.shape, 3), color, np.uint8), labels, segments, "a scene")


def classes_of_pixels(scene: LabelledImage) -> np.ndarray:
    return np.array([0, *(50 + segment["category_id"] for segment in scene.segments)], np.uint8)[scene.numbers]


@given(scenes(), scenes(), PARTS, PARTS, st.booleans())
@settings(max_examples=80, deadline=None)
def test_pasted_labels_are_those_of_their_pixels(
    scene: LabelledImage, other: LabelledImage, down: float, across: float, flip: bool
) -> None:
    chosen = [number - 1 for number in np.unique(other.numbers) if number and other.segments[number - 1]["isthing"]]
    if not chosen:
        return

    whole = paste_things(scene, other, chosen, 1.0, (down, across), flip)

    assert whole.size == scene.size
    np.testing.assert_array_equal(classes_of_pixels(whole), whole.image[:, :, 0])
    areas = np.bincount(whole.numbers.ravel(), minlength=len(whole.segments) + 1)
    assert len(areas) == len(whole.segments) + 1 and (areas[1:] > 0).all()
    assert all(segment in scene.segments + other.segments for segment in whole.segments)


def test_pasted_thing_hides_what_is_behind_it_and_what_is_hidden_is_gone() -> None:
    scene = plain([[1, 1, 2], [1, 1, 2]], [thing(3), thing(4)])
    other = plain([[0, 1], [0, 1]], [thing(0)], color=9)

    front = paste_things(scene, other, [0], 1.0, (0.0, 1.0), flip=False)

    np.testing.assert_array_equal(front.numbers, [[1, 1, 2], [1, 1, 2]])
    assert [segment["category_id"] for segment in front.segments] == [3, 0]
    np.testing.assert_array_equal(front.image[:, :, 0], [[0, 0, 9], [0, 0, 9]])
    np.testing.assert_array_equal(scene.numbers, [[1, 1, 2], [1, 1, 2]])  # the scene itself is as it was
    assert (scene.image == 0).all()


def test_things_are_mirrored_and_resized_together() -> None:
    scene = plain([[0] * 8] * 4, [])
    other = plain([[1, 2, 2], [1, 2, 2]], [thing(0), thing(1)])

    whole = paste_things(scene, other, [0, 1], 2.0, (0.0, 0.0), flip=True)

    np.testing.assert_array_equal(whole.numbers, [[2, 2, 2, 2, 1, 1, 0, 0]] * 4)


def test_things_larger_than_the_image_are_cut() -> None:
    scene = plain([[0, 0]], [])
    other = plain([[1, 2, 3, 4]], [thing(number) for number in range(4)])

    middle = paste_things(scene, other, [0, 1, 2, 3], 1.0, (0.0, 0.5), flip=False)

    assert [segment["category_id"] for segment in middle.segments] == [1, 2]


def test_more_than_255_segments_keep_their_classes() -> None:
    numbers = np.arange(1, 201, dtype=np.uint8).reshape(10, 20)
    things = [thing(number % 7) for number in range(200)]
    scene = LabelledImage(np.zeros((10, 20, 3), np.uint8), numbers, things, "")
    wide = LabelledImage(np.zeros((10, 40, 3), np.uint8), np.pad(numbers, ((0, 0), (0, 20))), things, "")

    whole = paste_things(wide, scene, list(range(200)), 1.0, (0.0, 1.0), flip=False)

    assert len(whole.segments) == 400
    np.testing.assert_array_equal(classes_of_pixels(whole)[:, :20], classes_of_pixels(whole)[:, 20:])


def test_crowds_and_stuff_stay_where_they_are() -> None:
    stuff = {"category_id": 4, "isthing": False, "iscrowd": 0}
    other = plain([[1, 2]], [thing(0, iscrowd=1), stuff], color=9)
    scene = plain([[1, 1]], [thing(2)])
    np.random.seed(0)

    for _ in range(20):
        assert paste_by_chance(scene, [other], 1.0, 1.0).segments == scene.segments


def test_training_sees_things_of_other_images_with_their_masks(
    yard_folder: Path, tiny_config: Callable[..., CfgNode]
) -> None:
    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN", (0,))
    cfg.merge_from_list(["INPUT.COPY_PASTE.ENABLED", True, "INPUT.COPY_PASTE.PROB", 1.0])
    register_from_config(cfg)
    records = DatasetCatalog.get("yard_train")
    mapper, entries = build_train_mapper(cfg, records)
    np.random.seed(0)

    counts = []
    for _ in range(10):
        given_to_model = mapper(entries[2])
        targets = given_to_model["instances"]
        masks = targets.gt_masks.tensor
        assert given_to_model["file_name"] == records[2]["file_name"]
        assert masks.sum(0).max() == 1  # one pixel, one segment
        for mask, box in zip(masks, targets.gt_boxes.tensor.tolist()):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        counts.append(len(targets))

    assert max(counts) > len(records[2]["segments_info"])


@pytest.mark.parametrize(
    ("key", "value"), [("PROB", 1.5), ("MIN_SCALE", 0.0), ("MIN_SCALE", 2.0), ("MAX_SCALE", float("inf"))]
)
def test_senseless_values_are_refused(tiny_config: Callable[..., CfgNode], key: str, value: float) -> None:
    cfg = tiny_config("INPUT.COPY_PASTE.ENABLED", True, f"INPUT.COPY_PASTE.{key}", value)

    with pytest.raises(ConfigError, match=rf"COPY_PASTE\.{key}"):
        build_train_mapper(cfg, [])


def test_images_with_boxes_only_are_refused_by_name(tiny_config: Callable[..., CfgNode]) -> None:
    cfg = tiny_config("INPUT.COPY_PASTE.ENABLED", True)

    with pytest.raises(ConfigError, match=r"INPUT\.COPY_PASTE needs panoptic ground truth, and boxes\.jpg has none"):
        build_train_mapper(cfg, [{"file_name": "boxes.jpg", "annotations": []}])
