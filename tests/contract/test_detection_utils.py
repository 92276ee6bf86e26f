"""Reading images and turning annotations into instances. Expected values were recorded from Detectron2 0.6."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from PIL import Image

from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances

EXIF_ORIENTATION = 274
COLORS = (np.arange(4 * 6 * 3) * 37 % 256).astype(np.uint8).reshape(4, 6, 3)


def save(path: Path, array: np.ndarray, **options: Any) -> str:
    Image.fromarray(array).save(path, **options)
    return str(path)


def test_image_is_read_in_the_order_of_channels_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", COLORS)

    assert np.array_equal(detection_utils.read_image(path, "RGB"), COLORS)
    assert np.array_equal(detection_utils.read_image(path, "BGR"), COLORS[:, :, ::-1])
    assert np.array_equal(detection_utils.read_image(path), COLORS)
    assert detection_utils.read_image(path, "RGB").dtype == np.uint8


def test_grey_image_becomes_what_is_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "grey.png", COLORS[:, :, 0])

    assert np.array_equal(detection_utils.read_image(path, "RGB"), np.repeat(COLORS[:, :, :1], 3, axis=2))
    assert np.array_equal(detection_utils.read_image(path, "L"), COLORS[:, :, :1])
    assert detection_utils.read_image(path).shape == (4, 6)


def test_transparent_and_palette_images_become_three_channels(tmp_path: Path) -> None:
    transparent = save(tmp_path / "rgba.png", np.dstack([COLORS, np.full((4, 6), 9, dtype=np.uint8)]))
    Image.fromarray(COLORS[:, :, 0]).convert("P").save(tmp_path / "palette.png")

    assert np.array_equal(detection_utils.read_image(transparent, "RGB"), COLORS)
    assert detection_utils.read_image(str(tmp_path / "palette.png"), "BGR").shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
        (99, lambda a: a),
    ],
)
def test_image_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, upright: Any) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    png = save(tmp_path / "a.png", COLORS, exif=exif)
    jpeg = save(tmp_path / "a.jpg", COLORS, exif=exif)

    assert np.array_equal(detection_utils.read_image(png, "RGB"), upright(COLORS))
    assert detection_utils.read_image(jpeg, "BGR").shape == upright(COLORS).shape


def test_image_with_broken_exif_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", COLORS, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")

    assert detection_utils.read_image(path, "RGB").shape == (4, 6, 3)


def test_absent_and_broken_images_are_errors(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not an image")

    with pytest.raises(FileNotFoundError):
        detection_utils.read_image(str(tmp_path / "absent.jpg"), "RGB")
    with pytest.raises(OSError):
        detection_utils.read_image(str(tmp_path / "broken.jpg"), "RGB")


def annotation(**more: Any) -> dict[str, Any]:
    return {"bbox": [1, 1, 4, 2], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 3, **more}


def test_annotation_is_transformed_and_its_box_clipped() -> None:
    transforms = T.TransformList([T.HFlipTransform(6), T.ResizeTransform(4, 6, 8, 6), T.CropTransform(2, 0, 4, 8)])

    result = detection_utils.transform_instance_annotations(
        annotation(), T.TransformList(transforms.transforms[:2]), (8, 6)
    )
    clipped = detection_utils.transform_instance_annotations(annotation(), transforms, (8, 4))

    assert result["bbox"].tolist() == [1.0, 2.0, 5.0, 6.0]
    assert result["bbox_mode"] == BoxMode.XYXY_ABS
    assert clipped["bbox"].tolist() == [0.0, 2.0, 3.0, 6.0]


def test_annotations_mask_is_transformed() -> None:
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[1:3, 1:5] = 1
    runs = coco_mask.encode(np.asfortranarray(mask))

    result = detection_utils.transform_instance_annotations(
        annotation(segmentation=runs), [T.HFlipTransform(6), T.CropTransform(0, 1, 3, 3)], (3, 3)
    )

    assert np.array_equal(result["segmentation"], mask[:, ::-1][1:, :3])


def test_annotations_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="Cannot transform segmentation of type"):
        detection_utils.transform_instance_annotations(annotation(segmentation="mask.png"), T.NoOpTransform(), (4, 6))


def test_annotations_become_instances() -> None:
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[1:3, 1:5] = 1
    annotations = [annotation(segmentation=mask), annotation(segmentation=mask)]

    instances = detection_utils.annotations_to_instances(annotations, (4, 6), mask_format="bitmask")

    assert instances.image_size == (4, 6)
    assert isinstance(instances.gt_boxes, Boxes) and isinstance(instances.gt_masks, BitMasks)
    assert instances.gt_boxes.tensor.tolist() == [[1, 1, 5, 3]] * 2
    assert instances.gt_classes.tolist() == [3, 3] and instances.gt_classes.dtype == torch.int64
    assert all(np.array_equal(one.numpy(), mask) for one in instances.gt_masks.tensor)


def test_annotations_without_masks_become_boxes_and_classes() -> None:
    assert list(detection_utils.annotations_to_instances([annotation()], (4, 6)).get_fields()) == [
        "gt_boxes",
        "gt_classes",
    ]


def test_no_annotations_become_no_instances() -> None:
    instances = detection_utils.annotations_to_instances([], (4, 6), "bitmask")

    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_classes.dtype == torch.int64


def test_empty_instances_are_left_out() -> None:
    masks = torch.ones(3, 4, 6, dtype=torch.bool)
    masks[1] = False
    boxes = Boxes([[0, 0, 2, 2], [0, 0, 2, 2], [1, 1, 1, 3]])
    instances = Instances((4, 6), gt_boxes=boxes, gt_classes=torch.arange(3), gt_masks=BitMasks(masks))

    assert detection_utils.filter_empty_instances(instances).gt_classes.tolist() == [0]
    assert detection_utils.filter_empty_instances(instances, by_mask=False).gt_classes.tolist() == [0, 1]
    assert len(detection_utils.filter_empty_instances(instances, box_threshold=2)) == 0
