"""Segments of a panoptic map: they part the image, and their boxes fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from detr_d2.data import register
from detr_d2.data.segments import find_segments, number_segments, read_panoptic_png, transform_numbers
from tests.data.made_samples import make_mapper

from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T

number_maps = arrays.arrays(
    np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 5)
)


@given(number_maps, st.lists(st.booleans(), min_size=5, max_size=5))
@settings(max_examples=60, deadline=None)
def test_segments_partition_the_image_and_boxes_fit(numbers: np.ndarray, wanted: list[bool]) -> None:
    segments = find_segments(numbers, np.array(wanted))

    assert segments.areas.tolist() == segments.masks.sum(axis=(1, 2)).tolist()
    assert segments.masks.sum(axis=0).max(initial=0) <= 1
    expected = [place for place in range(5) if wanted[place] and (numbers == place + 1).any()]
    assert segments.numbers.tolist() == expected
    for place, box in zip(expected, segments.boxes):
        rows, columns = np.nonzero(numbers == place + 1)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@given(st.lists(st.integers(1, 256**3 - 1), min_size=1, max_size=300, unique=True), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_numbers_are_the_places_of_the_ids(ids: list[int], seed: int) -> None:
    places = np.random.default_rng(seed).integers(0, len(ids) + 1, (9, 11))

    numbers = number_segments(np.array([0, *ids])[places], ids, "an image")

    assert (numbers == places).all()


def test_more_than_255_segments_survive_a_resize() -> None:
    numbers = np.arange(400, dtype=np.uint16).reshape(20, 20)
    double = T.TransformList([T.ResizeTransform(20, 20, 40, 40)])

    moved = transform_numbers(numbers, double)

    assert (moved == numbers.repeat(2, 0).repeat(2, 1)).all()


def test_real_segments_agree_with_their_json(shared_data: Path) -> None:
    folder = shared_data / "coco128_panoptic" / "val"
    register("test_mapper_coco128_val", folder / "images", folder / "panoptic.json", folder / "panoptic")
    mapper = make_mapper()

    for entry in DatasetCatalog.get("test_mapper_coco128_val")[:12]:
        instances = mapper(entry)["instances"]
        infos = [info for info in entry["segments_info"] if not info["iscrowd"]]
        x, y, width, height = np.array([info["bbox"] for info in infos]).T
        areas = instances.gt_masks.tensor.flatten(1).sum(1)
        assert areas.tolist() == [info["area"] for info in infos]
        assert instances.gt_boxes.tensor.tolist() == np.stack([x, y, x + width, y + height], 1).tolist()
        assert read_panoptic_png(entry["pan_seg_file_name"]).shape == (entry["height"], entry["width"])
    assert (mapper.num_absent, mapper.num_cropped) == (0, 0)
