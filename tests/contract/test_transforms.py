"""Transforms of images, boxes and labels, and how chance chooses them.

Expected values were recorded from Detectron2 0.6 (Pillow 12); images and boxes are equal to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectron2.data import transforms as T

IMAGE = (np.arange(4 * 6 * 3) * 37 % 256).astype(np.uint8).reshape(4, 6, 3)


def described(transform: Any) -> tuple:
    """A transform's type and whole numbers; of a list those of its parts."""
    if isinstance(transform, T.TransformList):
        return tuple(described(part) for part in transform.transforms)
    names = ("x0", "y0", "w", "h", "new_w", "new_h", "width", "height")
    found = {name: int(value) for name, value in vars(transform).items() if name in names}
    return type(transform).__name__, *(f"{name}={value}" for name, value in sorted(found.items()))


def test_resized_image_is_pils() -> None:
    resized = T.ResizeTransform(4, 6, 3, 5).apply_image(IMAGE)

    assert resized.dtype == np.uint8
    assert resized[:, :, 0].tolist() == [[54, 120, 158, 145, 104], [100, 80, 125, 169, 150], [145, 104, 92, 129, 195]]
    assert resized.astype(int).sum() == 5528


def test_enlarged_image_is_pils() -> None:
    enlarged = T.ResizeTransform(4, 6, 5, 8).apply_image(IMAGE)

    assert enlarged[:, :, 1].tolist() == [
        [37, 106, 94, 17, 100, 183, 171, 80],
        [145, 102, 90, 102, 51, 112, 167, 188],
        [140, 129, 117, 104, 91, 78, 114, 183],
        [135, 156, 144, 106, 131, 92, 80, 101],
        [243, 152, 140, 191, 82, 133, 121, 30],
    ]


def test_resize_keeps_a_single_channel() -> None:
    assert T.ResizeTransform(4, 6, 3, 5).apply_image(IMAGE[:, :, :1]).shape == (3, 5, 1)
    assert T.ResizeTransform(4, 6, 3, 5).apply_image(IMAGE[:, :, 0]).shape == (3, 5)


@pytest.mark.parametrize("flipped", [False, True])
def test_resized_labels_are_the_nearest(flipped: bool) -> None:
    labels = IMAGE[:, ::-1, 0][:, ::-1] if flipped else IMAGE[:, :, 0]

    smaller = T.ResizeTransform(4, 6, 3, 5).apply_segmentation(labels)

    assert smaller.tolist() == [[0, 111, 77, 188, 43], [52, 163, 129, 240, 95], [206, 61, 27, 138, 249]]


def test_resized_boxes_and_points() -> None:
    resize = T.ResizeTransform(4, 6, 3, 5)

    boxes = resize.apply_box(np.array([[0.5, 1, 3.25, 4], [2, 0, 6, 2]]))

    assert boxes.tolist() == [[0.4166666666666667, 0.75, 2.7083333333333335, 3.0], [1.6666666666666667, 0.0, 5.0, 1.5]]
    assert resize.apply_coords(np.array([[1.0, 2.0]])).tolist() == [[0.8333333333333334, 1.5]]


def test_resize_refuses_a_image_of_another_size() -> None:
    with pytest.raises(AssertionError):
        T.ResizeTransform(5, 6, 3, 5).apply_image(IMAGE)


@pytest.mark.parametrize(
    ("size", "short", "longest", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 480), 800, 1333, (1067, 800)),
        ((100, 1000), 480, 1333, (133, 1333)),
        ((333, 500), 512, 600, (400, 600)),
        ((427, 640), 608, 1333, (608, 911)),
    ],
)
def test_shortest_edge_gives_the_recorded_sizes(
    size: tuple[int, int], short: int, longest: int, expected: tuple[int, int]
) -> None:
    image = np.zeros((*size, 3), dtype=np.uint8)

    transform = T.ResizeShortestEdge([short], longest, "choice").get_transform(image)

    assert (transform.new_h, transform.new_w) == expected


def test_shortest_edge_of_zero_leaves_the_image() -> None:
    assert isinstance(T.ResizeShortestEdge(0, 100, "choice").get_transform(IMAGE), T.NoOpTransform)


def test_shortest_edge_checks_its_arguments() -> None:
    with pytest.raises(AssertionError):
        T.ResizeShortestEdge([1, 2, 3], 100, "range")
    with pytest.raises(AssertionError):
        T.ResizeShortestEdge([1, 2], 100, "either")


@pytest.mark.parametrize(
    ("crop_type", "crop_size", "expected"),
    [
        ("relative", (0.5, 0.25), ("h=25", "w=18", "x0=43", "y0=5")),
        ("relative_range", [0.3, 0.9], ("h=30", "w=68", "x0=1", "y0=9")),
        ("absolute", (30, 500), ("h=30", "w=70", "x0=0", "y0=5")),
        ("absolute_range", (20, 40), ("h=25", "w=31", "x0=8", "y0=12")),
    ],
)
def test_crop_of_seed_1_is_the_recorded_one(crop_type: str, crop_size: Any, expected: tuple) -> None:
    np.random.seed(1)

    transform = T.RandomCrop(crop_type, crop_size).get_transform(np.zeros((50, 70, 3)))

    assert described(transform) == ("CropTransform", *expected)


def test_crop_moves_boxes_and_cuts_images() -> None:
    crop = T.CropTransform(1, 2, 4, 2)

    assert np.array_equal(crop.apply_image(IMAGE), IMAGE[2:4, 1:5])
    assert crop.apply_box(np.array([[1.0, 1.0, 6.0, 4.0]])).tolist() == [[0.0, -1.0, 5.0, 2.0]]


def test_flip_turns_images_and_boxes_over() -> None:
    flip = T.HFlipTransform(6)

    assert np.array_equal(flip.apply_image(IMAGE), IMAGE[:, ::-1])
    assert np.array_equal(flip.apply_segmentation(IMAGE[:, :, 0]), IMAGE[:, ::-1, 0])
    assert flip.apply_box(np.array([[1.0, 1.0, 3.0, 4.0]])).tolist() == [[3.0, 1.0, 5.0, 4.0]]


def test_random_flips_of_seed_2_are_the_recorded_ones() -> None:
    np.random.seed(2)
    flip = T.RandomFlip(0.5, horizontal=False, vertical=True)

    names = [type(flip.get_transform(IMAGE)).__name__[0] for _ in range(6)]

    assert "".join(names) == "VVNVVV"


def test_random_flip_goes_one_way() -> None:
    for both in (True, False):
        with pytest.raises((AssertionError, ValueError)):
            T.RandomFlip(horizontal=both, vertical=both)


#: By seed: the transforms, the size, the boxes, the sum of all pixels, and the labelled area.
RECORDED_CHAINS = {
    0: (
        "NoOpTransform; "
        "ResizeTransform h=50 new_h=50 new_w=70 w=70; "
        "CropTransform h=38 w=41 x0=3 y0=11; "
        "ResizeTransform h=38 new_h=57 new_w=62 w=41",
        (57, 62),
        [[3.02439, -1.5, 71.07317, 13.5]],
        1323376,
        767,
    ),
    1: (
        "HFlipTransform width=70; "
        "ResizeTransform h=50 new_h=40 new_w=56 w=70; "
        "CropTransform h=38 w=47 x0=0 y0=1; "
        "ResizeTransform h=38 new_h=64 new_w=79 w=47",
        (64, 79),
        [[26.89362, 11.78947, 87.40426, 25.26316]],
        1897091,
        676,
    ),
    2: (
        "HFlipTransform width=70; "
        "ResizeTransform h=50 new_h=50 new_w=70 w=70; "
        "CropTransform h=46 w=60 x0=2 y0=3; "
        "ResizeTransform h=46 new_h=59 new_w=77 w=60",
        (59, 77),
        [[23.1, 8.97826, 80.85, 21.80435]],
        1718582,
        702,
    ),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_augmentation_list_transforms_image_boxes_and_labels_alike(seed: int) -> None:
    augmentations = T.AugmentationList(
        [
            T.RandomFlip(),
            T.ResizeShortestEdge([40, 50, 60], sample_style="choice"),
            T.RandomCrop("absolute_range", (38, 60)),
            T.ResizeShortestEdge((48, 80), 133, "range"),
        ]
    )
    np.random.seed(seed)
    image = (np.arange(50 * 70 * 3) % 251).astype(np.uint8).reshape(50, 70, 3)
    labels = np.zeros((50, 70), dtype=np.uint8)
    labels[10:20, 5:50] = 1
    given = T.AugInput(image)

    transforms = augmentations(given)

    names, shape, boxes, total, area = RECORDED_CHAINS[seed]
    assert "; ".join(" ".join(part) for part in described(transforms)) == names
    moved = transforms.apply_segmentation(labels)
    assert given.image.shape == (*shape, 3) and moved.shape == shape
    np.testing.assert_allclose(transforms.apply_box(np.array([[5.0, 10.0, 50.0, 20.0]])), boxes, atol=1e-4)
    assert int(given.image.astype(int).sum()) == total
    assert int(moved.sum()) == area
    assert np.array_equal(transforms.apply_image(image), given.image)


def test_augmentation_of_one_parameter_gets_the_image_whatever_its_name() -> None:
    class Half(T.Augmentation):
        def get_transform(self, anything: np.ndarray) -> T.Transform:
            return T.ResizeTransform(*anything.shape[:2], anything.shape[0] // 2, anything.shape[1] // 2)

    given = T.AugInput(IMAGE)

    Half()(given)

    assert given.image.shape == (2, 3, 3)


def test_random_apply_of_seed_3_is_the_recorded_one() -> None:
    flip = T.RandomApply(T.AugmentationList([T.RandomFlip(1.0)]), prob=0.5)
    np.random.seed(3)

    applied = [isinstance(flip(T.AugInput(IMAGE)), T.TransformList) for _ in range(6)]

    assert applied == [False, False, True, False, False, True]
