"""Yard scenes: what they promise, at any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detr_d2.errors import ConfigError
from detr_d2.yard.scene import MIN_VISIBLE_AREA, STUFF, THINGS, Scene, make_scene


@given(st.integers(0, 10_000), st.sampled_from([(160, 128), (96, 80), (200, 64)]))
@settings(max_examples=25, deadline=None)
def test_scene_keeps_its_promises(index: int, size: tuple[int, int]) -> None:
    width, height = size

    scene = make_scene(index, "train", 1, width, height)

    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    assert scene.segments.shape == (height, width)
    assert scene.names[:2] == ["sky", "ground"]
    assert all(scene.names.count(name) <= 1 for name in STUFF)
    assert set(scene.names) <= {*STUFF, *THINGS}
    areas = np.bincount(scene.segments.ravel(), minlength=len(scene.names))
    assert len(areas) == len(scene.names)
    things = [area for name, area in zip(scene.names, areas) if name in THINGS]
    assert all(area >= MIN_VISIBLE_AREA * width * height for area in things)
    assert len(things) <= 8


def test_scenes_are_the_same_again_and_differ_by_index_split_and_seed() -> None:
    first = make_scene(3, "train", 0)

    again = make_scene(3, "train", 0)
    others = [make_scene(4, "train", 0), make_scene(3, "val", 0), make_scene(3, "train", 1)]

    assert (first.image == again.image).all()
    assert (first.segments == again.segments).all()
    assert first.names == again.names
    assert all((first.image != other.image).mean() > 0.5 for other in others)


def test_scenes_show_every_category_and_several_of_a_kind() -> None:
    scenes = [make_scene(index) for index in range(25)]

    assert {name for scene in scenes for name in scene.names} == {*STUFF, *THINGS}
    assert sum(any(scene.names.count(name) > 1 for name in THINGS) for scene in scenes) > 12
    assert 3 < np.mean([sum(name in THINGS for name in scene.names) for scene in scenes]) < 7


def test_most_things_are_12_to_60_pixels_wide() -> None:
    widths = []
    for index in range(25):
        scene = make_scene(index)
        for number, name in enumerate(scene.names):
            if name in THINGS:
                columns = np.flatnonzero((scene.segments == number).any(axis=0))
                widths.append(columns[-1] - columns[0] + 1)

    assert np.quantile(widths, 0.1) >= 12
    assert np.quantile(widths, 0.9) <= 60


def test_things_stand_out_from_the_ground_by_colour() -> None:
    drums, ground = [], []
    for index in range(40):
        scene = make_scene(index)
        for number, name in enumerate(scene.names):
            if name in ("drum", "ground") and (scene.segments == number).any():
                mean = scene.image[scene.segments == number].mean(axis=0)
                (drums if name == "drum" else ground).append(mean[2] - mean[0])

    assert np.quantile(drums, 0.05) > np.quantile(ground, 0.95) + 20


@pytest.mark.parametrize("size", [(63, 128), (160, 47), (5000, 128)])
def test_senseless_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"size {size[0]}x{size[1]}; allowed are 64x48 to 4096x4096"):
        make_scene(0, width=size[0], height=size[1])


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="split='test'"):
        make_scene(0, "test")


@pytest.fixture(scope="module")
def large_scene() -> Scene:
    """A scene as a phone would take it, or nearly."""
    return make_scene(0, width=1600, height=1200)


def test_large_scene_has_the_same_promises(large_scene: Scene) -> None:
    scene = large_scene

    areas = np.bincount(scene.segments.ravel(), minlength=len(scene.names))
    assert scene.image.shape == (1200, 1600, 3)
    assert scene.segments.shape == (1200, 1600)
    assert areas.min() >= MIN_VISIBLE_AREA * 1600 * 1200
    assert any(name in THINGS for name in scene.names)


def test_large_scene_is_sharp_where_its_segments_meet(large_scene: Scene) -> None:
    """Two pixels from a thing's border the image is what it is ten pixels from it; an enlarged image isn't."""
    scene = large_scene
    small = Image.fromarray(scene.image).resize((400, 300), Image.Resampling.BOX)
    enlarged = np.asarray(small.resize((1600, 1200), Image.Resampling.BICUBIC))

    assert contrast(scene.image, scene, 2) > 0.9 * contrast(scene.image, scene, 10)
    assert contrast(enlarged, scene, 2) < 0.9 * contrast(enlarged, scene, 10)


def contrast(image: np.ndarray, scene: Scene, distance: int) -> float:
    """Mean difference of brightness between the two sides of things' upright borders, so many pixels from them."""
    is_thing = np.isin(scene.segments, [number for number, name in enumerate(scene.names) if name in THINGS])
    windows = np.lib.stride_tricks.sliding_window_view(is_thing, 20, axis=1)
    before, after = windows[..., :10], windows[..., 10:]
    is_border = (before.all(-1) & ~after.any(-1)) | (~before.any(-1) & after.all(-1))
    rows, columns = np.nonzero(is_border)
    brightness = image.mean(axis=2)
    return float(np.abs(brightness[rows, columns + 9 + distance] - brightness[rows, columns + 10 - distance]).mean())
