"""RICAP: four images in one, with targets that are the pixels'."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_d2.data import DetrPanopticDatasetMapper
from detr_d2.data.mixing import Mix, MixingMapper, PackedRecords, compose_scenes, ricap_of
from detr_d2.data.segments import LabelledImage
from detr_d2.data.train_loader import build_train_mapper
from detr_d2.errors import ConfigError, DatasetError
from tests.made_scenes import scenes

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

PARTS = st.floats(0, 1)


def ricap(prob: float, beta: float) -> Mix:
    return Mix("INPUT.RICAP", prob, 3, partial(ricap_of, beta=beta))


@given(
    st.lists(scenes(), min_size=4, max_size=4), PARTS, PARTS, st.lists(st.tuples(PARTS, PARTS), min_size=4, max_size=4)
)
@settings(max_examples=60, deadline=None)
def test_composed_scene_has_the_pixels_and_segments_of_its_pieces(
    four: list[LabelledImage], down: float, across: float, places: list[tuple[float, float]]
) -> None:
    height, width = four[0].size
    row, column = round(down * height), round(across * width)

    whole = compose_scenes(four, (row, column), places)

    assert whole.size == (height, width) and whole.numbers.shape == (height, width)
    areas = np.bincount(whole.numbers.ravel(), minlength=len(whole.segments) + 1)
    assert len(areas) == len(whole.segments) + 1 and (areas[1:] > 0).all()
    windows = [np.s_[:row, :column], np.s_[:row, column:], np.s_[row:, :column], np.s_[row:, column:]]
    things = 0
    for window, scene in zip(windows, four):
        allowed = {segment["category_id"] for segment in scene.segments}
        found = np.unique(whole.numbers[window])
        shown = [whole.segments[number - 1] for number in found if number]
        assert {segment["category_id"] for segment in shown} <= allowed
        things += sum(segment["isthing"] for segment in shown)
    assert things == sum(segment["isthing"] for segment in whole.segments)  # no thing is in two pieces
    stuff = [segment["category_id"] for segment in whole.segments if not segment["isthing"]]
    assert len(stuff) == len(set(stuff))


@given(scenes(), st.lists(st.tuples(PARTS, PARTS), min_size=4, max_size=4), PARTS, PARTS)
@settings(max_examples=40, deadline=None)
def test_labels_move_with_their_pixels(
    scene: LabelledImage, places: list[tuple[float, float]], down: float, across: float
) -> None:
    height, width = scene.size

    whole = compose_scenes([scene] * 4, (round(down * height), round(across * width)), places)

    classes = np.array([0, *(50 + segment["category_id"] for segment in whole.segments)], np.uint8)
    np.testing.assert_array_equal(classes[whole.numbers], whole.image[:, :, 0])


def test_meeting_point_in_a_corner_leaves_one_whole_image() -> None:
    rng = np.random.default_rng(0)
    segments = [{"category_id": 1, "isthing": True, "iscrowd": 0}, {"category_id": 4, "isthing": False, "iscrowd": 1}]
    four = [
        LabelledImage(
            rng.integers(256, size=(6, 8, 3), dtype=np.uint8),
            rng.integers(3, size=(6, 8)).astype(np.uint8),
            segments,
            "",
        )
        for _ in range(4)
    ]

    whole = compose_scenes(four, (6, 8), [(0.5, 0.5)] * 4)

    np.testing.assert_array_equal(whole.image, four[0].image)
    np.testing.assert_array_equal(whole.numbers, four[0].numbers)
    assert whole.segments == segments


def test_other_images_are_resized_to_cover_the_first() -> None:
    large = np.zeros((40, 80, 3), np.uint8)
    large[:, 40:] = 200
    halves = np.ones((40, 80), np.uint8)
    halves[:, 40:] = 2
    infos = [{"category_id": c, "isthing": True, "iscrowd": 0} for c in (0, 1)]
    small = LabelledImage(np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), np.uint8), [], "first")

    whole = compose_scenes([small, *[LabelledImage(large, halves, infos, "other")] * 3], (0, 0), [(0.0, 0.5)] * 4)

    # 40x80 becomes 10x20, of which the middle 10 columns are taken: half of them of either side.
    assert (whole.numbers[:, :5] == 1).all() and (whole.numbers[:, 5:] == 2).all()
    assert (whole.image[:, :4] == 0).all() and (whole.image[:, 6:] == 200).all()


def test_more_than_255_segments_keep_their_numbers() -> None:
    numbers = np.arange(1, 201, dtype=np.uint8).reshape(10, 20)
    infos = [{"category_id": i % 7, "isthing": True, "iscrowd": 0} for i in range(200)]
    scene = LabelledImage(np.zeros((10, 20, 3), np.uint8), numbers, infos, "")

    whole = compose_scenes([scene] * 4, (5, 10), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
    twice = compose_scenes([whole] * 4, (5, 10), [(0.5, 0.5)] * 4)

    assert len(whole.segments) == 200 and len(twice.segments) <= 200
    assert [segment["category_id"] for segment in whole.segments] == [
        (int(n) - 1) % 7
        for part in (np.s_[:5, :10], np.s_[:5, 10:], np.s_[5:, :10], np.s_[5:, 10:])
        for n in numbers[part].ravel()
    ]


def test_records_come_back_as_they_were_also_in_another_process() -> None:
    records = [{"file_name": f"{i}.jpg", "segments_info": [{"id": i}] * i} for i in range(4)]

    packed = pickle.loads(pickle.dumps(PackedRecords(records)))

    assert list(packed) == records and len(packed) == 4


@pytest.fixture
def yard(yard_folder: Path, tiny_config: Callable[..., CfgNode]) -> tuple[CfgNode, list[dict[str, Any]]]:
    from detr_d2.data import register_from_config

    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN", (0,))
    register_from_config(cfg)
    return cfg, DatasetCatalog.get("yard_train")


def test_targets_of_four_images_are_their_masks(yard: tuple[CfgNode, list[dict[str, Any]]]) -> None:
    cfg, records = yard
    mapper = MixingMapper(DetrPanopticDatasetMapper(cfg, is_train=True), records, [ricap(1.0, 1.0)])
    np.random.seed(0)

    for _ in range(10):
        result = mapper(2)
        gt = result["instances"]
        masks = gt.gt_masks.tensor
        assert result["file_name"] == records[2]["file_name"] and result["image"].shape[1:] == masks.shape[1:]
        assert masks.sum(0).max() == 1  # one pixel, one segment
        for mask, box in zip(masks, gt.gt_boxes.tensor.tolist()):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_probability_of_none_leaves_images_as_they_are(yard: tuple[CfgNode, list[dict[str, Any]]]) -> None:
    cfg, records = yard
    plain = DetrPanopticDatasetMapper(cfg, is_train=True)

    result = MixingMapper(plain, records, [ricap(0.0, 0.3)])(1)

    torch.testing.assert_close(result["image"], plain(records[1])["image"])


@pytest.mark.parametrize(
    ("key", "value"), [("PROB", 1.5), ("PROB", -0.1), ("BETA", 0.0), ("BETA", float("nan")), ("BETA", float("inf"))]
)
def test_senseless_values_are_refused(tiny_config: Callable[..., CfgNode], key: str, value: float) -> None:
    cfg = tiny_config("INPUT.RICAP.ENABLED", True, f"INPUT.RICAP.{key}", value)

    with pytest.raises(ConfigError, match=rf"RICAP\.{key}"):
        build_train_mapper(cfg, [])


def test_images_with_boxes_only_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"INPUT\.RICAP needs panoptic ground truth, and boxes\.jpg has none"):
        MixingMapper(None, [{"file_name": "boxes.jpg", "annotations": []}], [ricap(0.5, 0.3)])  # type: ignore[arg-type]


def test_broken_image_among_the_four_is_named(yard: tuple[CfgNode, list[dict[str, Any]]], tmp_path: Path) -> None:
    cfg, records = yard
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(records[1]["file_name"]).read_bytes()[:300])
    records = [records[0], *[{**records[1], "file_name": str(broken)}] * 30]
    mapper = MixingMapper(DetrPanopticDatasetMapper(cfg, is_train=True), records, [ricap(1.0, 1.0)])

    with pytest.raises(DatasetError, match=r"broken\.jpg \(image id 2\): image-broken: can't be read"):
        mapper(0)
