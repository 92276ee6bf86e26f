"""Large-scale jitter and colour jitter: sizes, targets, and what stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detr_d2.config import add_detr_config
from detr_d2.data import build_augmentations
from detr_d2.data.augmentation import GREY, ColorJitter, ColorTransform
from detr_d2.data.segments import find_segments, transform_numbers
from detr_d2.errors import ConfigError

from detectron2.config import CfgNode, get_cfg
from detectron2.data import transforms as T


def make_config(*overrides: Any) -> CfgNode:
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.INPUT.FORMAT = "RGB"
    cfg.merge_from_list(["INPUT.RANDOM_FLIP", "none", *overrides])
    return cfg


def augment(cfg: CfgNode, image: np.ndarray) -> tuple[np.ndarray, T.TransformList]:
    augmented = T.AugInput(image)
    transforms = T.AugmentationList(build_augmentations(cfg, is_train=True))(augmented)
    return augmented.image, transforms


LSJ = ["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 48]


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.sampled_from([(0.1, 2.0), (1.0, 1.0), (0.02, 0.05), (3.0, 3.0)]),
)
@settings(max_examples=30, deadline=None)
def test_scaled_image_and_its_segments_stay_together(
    size: tuple[int, int], seed: int, pad: bool, scales: tuple[float, float]
) -> None:
    rng = np.random.default_rng(seed)
    np.random.seed(seed)
    numbers = rng.integers(1, 6, size=size).astype(np.uint8)
    image = np.repeat(np.zeros_like(numbers)[:, :, None], 3, axis=2)
    cfg = make_config(*LSJ, "INPUT.LSJ.PAD", pad, "INPUT.LSJ.MIN_SCALE", scales[0], "INPUT.LSJ.MAX_SCALE", scales[1])

    image, transforms = augment(cfg, image)
    moved = transform_numbers(numbers, transforms)
    segments = find_segments(moved, np.ones(5, bool))

    assert image.shape == (*moved.shape, 3)
    assert moved.shape == (48, 48) if pad else max(moved.shape) <= 48
    inside = (image != GREY).any(2)
    assert ((moved > 0) == inside).all()  # void exactly where there is no image
    assert segments.areas.sum() == inside.sum() and set(np.unique(moved)) <= {0, *np.unique(numbers)}
    for mask, box, area in zip(segments.masks, segments.boxes, segments.areas):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] and area == len(rows)


def test_scales_are_between_a_tenth_and_twice() -> None:
    np.random.seed(0)
    cfg = make_config("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 100, "INPUT.LSJ.PAD", False)

    sizes = [augment(cfg, np.zeros((30, 60, 3), np.uint8))[0].shape[:2] for _ in range(200)]

    heights = [height for height, _ in sizes]
    assert 5 <= min(heights) < 10 and 90 < max(heights) <= 100  # 0.1 x 50 to 2 x 50 rows
    assert max(width for _, width in sizes) == 100


def test_scale_jitter_takes_the_place_of_crop_and_resize() -> None:
    cfg = make_config(*LSJ)
    assert cfg.INPUT.DETR_CROP.ENABLED

    assert {augment(cfg, np.zeros((20, 30, 3), np.uint8))[0].shape for _ in range(20)} == {(48, 48, 3)}


def test_padding_keeps_its_grey_when_colours_change() -> None:
    np.random.seed(1)
    cfg = make_config(
        *LSJ, "INPUT.LSJ.MAX_SCALE", 0.5, "INPUT.COLOR_JITTER.ENABLED", True, "INPUT.COLOR_JITTER.PROB", 1.0
    )

    image, _ = augment(cfg, np.full((30, 30, 3), 200, np.uint8))

    assert (image[-1] == GREY).all() and not (image[0, 0] == GREY).all()


COLORS = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("changes", [[], [("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0)]])
def test_factors_of_one_change_nothing(changes: list[tuple[str, float]]) -> None:
    np.testing.assert_array_equal(ColorTransform(changes).apply_image(COLORS), COLORS)


def test_changes_do_what_their_names_say() -> None:
    brighter, contrasted, greyer, turned = (
        ColorTransform([change]).apply_image(COLORS).astype(float)
        for change in (("brightness", 1.3), ("contrast", 0.5), ("saturation", 0.0), ("hue", 1 / 3))
    )

    assert brighter.mean() > COLORS.mean() and contrasted.std() < COLORS.std()
    assert (greyer == greyer[:, :, :1]).all()
    red = ColorTransform([("hue", 1 / 3)]).apply_image(np.array([[[255, 0, 0]]], np.uint8))
    assert np.abs(red[0, 0].astype(int) - [0, 255, 0]).max() <= 6
    assert np.abs(turned.max(2) - COLORS.max(2)).max() <= 1  # the value of HSV stays


def test_channel_order_makes_no_difference() -> None:
    changes = [("saturation", 0.4), ("hue", 0.1), ("contrast", 1.2)]

    rgb = ColorTransform(changes).apply_image(COLORS)
    bgr = ColorTransform(changes, is_bgr=True).apply_image(COLORS[:, :, ::-1])

    np.testing.assert_array_equal(bgr[:, :, ::-1], rgb)


def test_colour_changes_leave_labels_and_boxes() -> None:
    np.random.seed(0)
    transform = ColorJitter(1.0, 0.4, 0.4, 0.4, 0.1).get_transform(COLORS)
    labels, box = np.arange(12, dtype=np.uint8).reshape(3, 4), np.array([[1.0, 2.0, 3.0, 4.0]])

    np.testing.assert_array_equal(transform.apply_segmentation(labels), labels)
    np.testing.assert_array_equal(transform.apply_box(box), box)
    assert (transform.apply_image(COLORS) != COLORS).any()


def test_probability_says_how_often_colours_change() -> None:
    np.random.seed(0)
    jitter = ColorJitter(0.3, 0.4, 0.0, 0.0, 0.0)

    changed = sum(isinstance(jitter.get_transform(COLORS), ColorTransform) for _ in range(1000))

    assert 250 < changed < 350


def test_new_augmentations_are_off_by_default_and_never_in_tests() -> None:
    cfg = make_config(*LSJ, "INPUT.COLOR_JITTER.ENABLED", True)

    names = [type(step).__name__ for step in build_augmentations(cfg, is_train=False)]
    default = [type(step).__name__ for step in build_augmentations(make_config(), is_train=True)]

    assert names == ["ResizeShortestEdge"] and default == ["RandomApply", "ResizeShortestEdge"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.MIN_SCALE", 0.0], "LSJ.MIN_SCALE is 0.0"),
        (["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.MIN_SCALE", 3.0], "LSJ.MIN_SCALE=3.0"),
        (["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 0], "SIZE is 0"),
        (["INPUT.COLOR_JITTER.ENABLED", True, "INPUT.COLOR_JITTER.HUE", 0.7], "HUE is 0.7"),
        (["INPUT.COLOR_JITTER.ENABLED", True, "INPUT.COLOR_JITTER.CONTRAST", -0.1], "CONTRAST"),
        (["INPUT.COLOR_JITTER.ENABLED", True, "INPUT.COLOR_JITTER.PROB", 2.0], "PROB is 2.0"),
    ],
)
def test_senseless_values_are_refused(overrides: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_augmentations(make_config(*overrides), is_train=True)


def test_colour_jitter_agrees_with_pillow() -> None:
    from PIL import ImageEnhance

    expected = np.asarray(ImageEnhance.Contrast(Image.fromarray(COLORS)).enhance(0.7))

    np.testing.assert_array_equal(ColorTransform([("contrast", 0.7)]).apply_image(COLORS), expected)
