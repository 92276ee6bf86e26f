"""The mapper: images, augmentation, and targets from panoptic PNGs and from boxes."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from detr_d2.config import add_detr_config
from detr_d2.data import DetrPanopticDatasetMapper, build_augmentations, register
from detr_d2.data.segments import find_segments, number_segments, read_panoptic_png, transform_numbers
from detr_d2.errors import ConfigError, DatasetError, MissingFileError

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

SKY, DRUM, CONE = 70_000, 300, 7
"""Segment ids of the image that ``sample`` writes."""


def make_config(**changes: Any) -> CfgNode:
    """A config without any augmentation but those of ``changes``, with masks."""
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.MIN_SIZE_TRAIN = (0,)
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.INPUT.DETR_CROP.ENABLED = False
    cfg.MODEL.DETR.MASK_ON = True
    cfg.merge_from_list([item for key, value in changes.items() for item in (key.replace("__", "."), value)])
    return cfg


def make_mapper(is_train: bool = True, **changes: Any) -> DetrPanopticDatasetMapper:
    return DetrPanopticDatasetMapper(make_config(**changes), is_train)


def write_ids(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(path)


@pytest.fixture
def sample(tmp_path: Path) -> dict[str, Any]:
    """A dataset dict of a 30x20 image: sky above, a drum and a cone below, the rest void."""
    ids = np.zeros((20, 30), np.int64)
    ids[:8] = SKY
    ids[10:18, 4:9] = DRUM
    ids[12:20, 20:23] = CONE
    write_ids(tmp_path / "a.png", ids)
    colors = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(colors).save(tmp_path / "an_image.png")
    segments = [(SKY, 6, 0), (DRUM, 2, 0), (CONE, 3, 0)]
    return {
        "file_name": str(tmp_path / "an_image.png"),
        "pan_seg_file_name": str(tmp_path / "a.png"),
        "image_id": 42,
        "width": 30,
        "height": 20,
        "segments_info": [{"id": i, "category_id": c, "isthing": c < 6, "iscrowd": crowd} for i, c, crowd in segments],
    }


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


def test_unlisted_ids_are_an_error_with_image_and_segment(sample: dict[str, Any]) -> None:
    del sample["segments_info"][1]

    with pytest.raises(DatasetError, match=r"image id 42 .*an_image\.png.*doesn't list \(300\)"):
        make_mapper()(sample)


def test_png_of_another_size_is_an_error_with_both_files_and_sizes(sample: dict[str, Any]) -> None:
    write_ids(Path(sample["pan_seg_file_name"]), np.full((20, 31), SKY))

    with pytest.raises(DatasetError, match=r"an_image\.png is 30x20 .*a\.png is 31x20"):
        make_mapper()(sample)


def test_json_of_another_size_is_an_error(sample: dict[str, Any]) -> None:
    sample["width"] = 31

    with pytest.raises(DatasetError, match=r"image id 42 .* is 30x20 pixels .* says 31x20"):
        make_mapper()(sample)


def write_turned(path: Path, upright: Image.Image) -> None:
    """An image stored lying on its side, with the EXIF tag that says how to turn it."""
    exif = Image.Exif()
    exif[274] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def test_exif_rotation_is_undone_before_labels_are_compared(sample: dict[str, Any], tmp_path: Path) -> None:
    expected = make_mapper()(sample)
    write_turned(tmp_path / "turned.png", Image.open(sample["file_name"]))

    turned = make_mapper()({**sample, "file_name": str(tmp_path / "turned.png")})

    torch.testing.assert_close(turned["image"], expected["image"])
    torch.testing.assert_close(turned["instances"].gt_masks.tensor, expected["instances"].gt_masks.tensor)


def test_sizes_of_the_unturned_image_are_explained(sample: dict[str, Any], tmp_path: Path) -> None:
    write_turned(tmp_path / "turned.png", Image.open(sample["file_name"]))

    with pytest.raises(DatasetError, match=r"says 20x30.*EXIF"):
        make_mapper()({**sample, "file_name": str(tmp_path / "turned.png"), "width": 20, "height": 30})


@pytest.mark.parametrize("key", ["file_name", "pan_seg_file_name"])
def test_missing_image_is_named(sample: dict[str, Any], key: str) -> None:
    Path(sample[key]).unlink()

    with pytest.raises(MissingFileError, match=Path(sample[key]).name):
        make_mapper()(sample)


@pytest.mark.parametrize("key", ["file_name", "pan_seg_file_name"])
@pytest.mark.parametrize("share", [0, 0.3, 0.6])
def test_broken_image_is_named(sample: dict[str, Any], key: str, share: float) -> None:
    path = Path(sample[key])
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(DatasetError, match=rf"{path.name}.* can't be read"):
        make_mapper()(sample)


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_panoptic_png_without_colours_is_refused(sample: dict[str, Any], mode: str) -> None:
    Image.new(mode, (30, 20)).save(sample["pan_seg_file_name"])

    with pytest.raises(DatasetError, match=r"a\.png: png-mode: is a PNG of mode"):
        make_mapper()(sample)


def test_panoptic_jpeg_is_refused(sample: dict[str, Any]) -> None:
    Image.new("RGB", (30, 20)).save(sample["pan_seg_file_name"], format="JPEG")

    with pytest.raises(DatasetError, match=r"a\.png: png-mode: is a JPEG"):
        make_mapper()(sample)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_images_of_other_modes_become_rgb(sample: dict[str, Any], tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("other.jpg" if mode == "CMYK" else "other.png")
    Image.open(sample["file_name"]).convert(mode).save(path)

    result = make_mapper()({**sample, "file_name": str(path)})

    assert result["image"].shape == (3, 20, 30)
    assert result["image"].dtype == torch.uint8


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


def box_sample(sample: dict[str, Any], **segmentation: Any) -> dict[str, Any]:
    """The sample with COCO instances instead of a panoptic PNG."""
    kept = {key: sample[key] for key in ("file_name", "image_id", "width", "height")}
    annotation = {"bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0, "category_id": 2}
    return {
        **kept,
        "annotations": [
            {**annotation, "bbox": [4.0, 10.0, 5.0, 8.0], **segmentation},
            {**annotation, "bbox": [0.0, 0.0, 30.0, 20.0], "iscrowd": 1},
        ],
    }


def test_boxes_come_from_annotations_without_crowds(sample: dict[str, Any]) -> None:
    instances = make_mapper()(box_sample(sample))["instances"]

    assert instances.gt_boxes.tensor.tolist() == [[4, 10, 9, 18]]
    assert instances.gt_classes.tolist() == [2]
    assert not instances.has("gt_masks")


def test_masks_come_from_polygons_where_all_have_them(sample: dict[str, Any]) -> None:
    polygon = [[4.0, 10.0, 9.0, 10.0, 9.0, 18.0, 4.0, 18.0]]

    instances = make_mapper()(box_sample(sample, segmentation=polygon))["instances"]

    assert instances.gt_masks.tensor.shape == (1, 20, 30)
    assert int(instances.gt_masks.tensor.sum()) == 40


def test_polygons_are_cropped_with_the_image(sample: dict[str, Any]) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[10:18, 8:22] = 255
    Image.fromarray(pixels).save(sample["file_name"])
    entry = box_sample(sample, segmentation=[[8.0, 10.0, 22.0, 10.0, 22.0, 18.0, 8.0, 18.0]])
    entry["annotations"][0]["bbox"] = [8.0, 10.0, 14.0, 8.0]
    changes = {"INPUT__DETR_CROP__ENABLED": True, "INPUT__DETR_CROP__PROB": 1.0, "INPUT__DETR_CROP__RESIZE_SIZES": []}
    mapper = make_mapper(**changes, INPUT__DETR_CROP__MIN_SIZE=12, INPUT__DETR_CROP__MAX_SIZE=20)
    np.random.seed(0)

    results = [mapper(entry) for _ in range(20)]

    seen = [result for result in results if (result["image"] == 255).any()]
    assert len({tuple(result["image"].shape) for result in seen}) > 5
    for result in seen:
        torch.testing.assert_close(result["instances"].gt_masks.tensor[0], result["image"][0] == 255)


def test_image_with_crowds_only_has_empty_targets(sample: dict[str, Any]) -> None:
    entry = box_sample(sample)
    entry["annotations"] = entry["annotations"][1:]

    instances = make_mapper()(entry)["instances"]

    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_classes.shape == (0,)


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


def test_real_boxes_agree_with_their_json(shared_data: Path) -> None:
    folder = shared_data / "tiny_coco_things"
    register("test_mapper_tiny", images=folder / "images", instances_json=folder / "instances.json")
    mapper = make_mapper()

    for entry in DatasetCatalog.get("test_mapper_tiny"):
        instances = mapper(entry)["instances"]
        boxes = np.array([a["bbox"] for a in entry["annotations"] if not a["iscrowd"]]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(instances.gt_boxes.tensor.numpy(), boxes, atol=1e-3)
