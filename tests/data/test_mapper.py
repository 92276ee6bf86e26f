"""The mapper: images, augmentation, and targets from panoptic PNGs and from boxes."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detr_d2.config import add_detr_config
from detr_d2.data import DetrPanopticDatasetMapper, build_augmentations
from detr_d2.errors import ConfigError
from tests.data.made_samples import make_config, make_mapper, write_ids

from detectron2.config import get_cfg
from detectron2.data import transforms as T


def test_targets_hold_things_and_stuff_with_exact_boxes_and_masks(sample: dict[str, Any]) -> None:
    result = make_mapper()(sample)

    instances = result["instances"]
    assert instances.gt_classes.tolist() == [6, 2, 3]
    assert instances.gt_classes.dtype == torch.int64
    assert instances.gt_boxes.tensor.tolist() == [[0, 0, 30, 8], [4, 10, 9, 18], [20, 12, 23, 20]]
    assert instances.gt_masks.tensor.flatten(1).sum(1).tolist() == [240, 40, 24]
    assert instances.image_size == (20, 30)


def test_image_is_uint8_channels_first_in_the_configs_format(sample: dict[str, Any]) -> None:
    expected = torch.from_numpy(np.array(Image.open(sample["file_name"]))).permute(2, 0, 1)

    rgb, bgr = (make_mapper(INPUT__FORMAT=name)(sample)["image"] for name in ("RGB", "BGR"))

    torch.testing.assert_close(rgb, expected)
    torch.testing.assert_close(bgr, expected.flip(0))


def test_inference_gives_no_targets_and_the_original_size(sample: dict[str, Any]) -> None:
    result = make_mapper(is_train=False, INPUT__MIN_SIZE_TEST=40, INPUT__MAX_SIZE_TEST=100)(sample)

    assert set(result) == {"image", "height", "width", "file_name", "image_id"}
    assert result["image"].shape == (3, 40, 60)
    assert (result["height"], result["width"], result["image_id"]) == (20, 30, 42)


def test_dataset_dict_stays_as_it_was(sample: dict[str, Any]) -> None:
    before = pickle.dumps(sample)

    make_mapper()(sample)

    assert pickle.dumps(sample) == before


def test_masks_are_made_only_where_the_model_has_them(sample: dict[str, Any]) -> None:
    instances = make_mapper(MODEL__DETR__MASK_ON=False)(sample)["instances"]

    assert not instances.has("gt_masks")
    assert len(instances.gt_boxes) == 3


def test_crowds_are_left_out_but_known(sample: dict[str, Any]) -> None:
    sample["segments_info"][1]["iscrowd"] = 1

    mapper = make_mapper()

    assert mapper(sample)["instances"].gt_classes.tolist() == [6, 3]
    assert (mapper.num_absent, mapper.num_cropped) == (0, 0)


def test_segment_without_a_pixel_is_left_out_counted_and_logged_once(
    sample: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    sample["segments_info"].append({"id": 5, "category_id": 1, "isthing": True, "iscrowd": 0})
    mapper = make_mapper()

    logger = logging.getLogger("detr_d2.data.mapper")
    logger.addHandler(caplog.handler)
    try:
        results = [mapper(sample)["instances"].gt_classes.tolist() for _ in range(3)]
    finally:
        logger.removeHandler(caplog.handler)

    assert results == [[6, 2, 3]] * 3
    assert mapper.num_absent == 3
    assert sum("have no pixel in its PNG" in record.getMessage() for record in caplog.records) >= 1
    assert len({record.created for record in caplog.records}) == 1


def test_segment_that_the_crop_cuts_off_is_left_out_and_counted(sample: dict[str, Any]) -> None:
    mapper = DetrPanopticDatasetMapper(True, augmentations=[Fixed(T.CropTransform(0, 0, 12, 12))])

    instances = mapper(sample)["instances"]

    assert instances.gt_classes.tolist() == [6, 2]
    assert instances.gt_boxes.tensor.tolist() == [[0, 0, 12, 8], [4, 10, 9, 12]]
    assert (mapper.num_absent, mapper.num_cropped) == (0, 1)


class Fixed(T.Augmentation):
    """An augmentation that always is this transform."""

    def __init__(self, transform: T.Transform) -> None:
        self.transform = transform

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return self.transform


def test_image_and_masks_are_flipped_alike(sample: dict[str, Any]) -> None:
    plain = make_mapper()(sample)

    flipped = DetrPanopticDatasetMapper(True, augmentations=[Fixed(T.HFlipTransform(30))])(sample)

    torch.testing.assert_close(flipped["image"], plain["image"].flip(2))
    masks = [result["instances"].gt_masks.tensor for result in (flipped, plain)]
    torch.testing.assert_close(masks[0], masks[1].flip(2))


def test_image_without_segments_has_empty_targets(sample: dict[str, Any]) -> None:
    write_ids(Path(sample["pan_seg_file_name"]), np.zeros((20, 30), np.int64))
    sample["segments_info"] = []

    instances = make_mapper()(sample)["instances"]

    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_masks.tensor.shape == (0, 20, 30)


def test_mapper_travels_to_spawned_workers(sample: dict[str, Any]) -> None:
    mapper = pickle.loads(pickle.dumps(make_mapper()))

    assert len(mapper(sample)["instances"]) == 3


def test_detr_augmentation_gives_its_sizes() -> None:
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN = tuple(range(480, 801, 32))
    cfg.INPUT.DETR_CROP.PROB = 0.5
    augmentations = T.AugmentationList(build_augmentations(cfg, is_train=True))
    image = np.zeros((480, 640, 3), np.uint8)

    shapes = set()
    for _ in range(40):
        augmented = T.AugInput(image)
        augmentations(augmented)
        shapes.add(augmented.image.shape[:2])

    assert all(min(shape) in cfg.INPUT.MIN_SIZE_TRAIN or max(shape) == 1333 for shape in shapes)
    assert all(max(shape) <= 1333 for shape in shapes)
    assert len({round(height / width, 2) for height, width in shapes}) > 5


def test_detr_crop_never_leaves_small_images(sample: dict[str, Any]) -> None:
    changes = {"INPUT__DETR_CROP__ENABLED": True, "INPUT__DETR_CROP__PROB": 1.0, "INPUT__DETR_CROP__RESIZE_SIZES": []}
    mapper = make_mapper(**changes, INPUT__DETR_CROP__MIN_SIZE=10, INPUT__DETR_CROP__MAX_SIZE=25)

    shapes = {tuple(mapper(sample)["image"].shape[1:]) for _ in range(40)}

    assert all(10 <= height <= 20 and 10 <= width <= 25 for height, width in shapes)
    assert len(shapes) > 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"INPUT__RANDOM_FLIP": "diagonal"}, "RANDOM_FLIP is 'diagonal'"),
        ({"INPUT__DETR_CROP__ENABLED": True, "INPUT__DETR_CROP__MIN_SIZE": 700}, "MIN_SIZE=700 and MAX_SIZE=600"),
        ({"INPUT__DETR_CROP__ENABLED": True, "INPUT__DETR_CROP__PROB": 1.5}, "PROB is 1.5"),
        ({"INPUT__MIN_SIZE_TRAIN": (-3,)}, "MIN_SIZE_TRAIN"),
    ],
)
def test_senseless_sizes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_augmentations(make_config(**changes), is_train=True)
