"""Large photos by tiles: a map that is cut up comes back as it was, and things that seams cut are one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from detr_d2.data import Category
from detr_d2.errors import ConfigError
from detr_d2.prediction import Prediction, Predictor
from detr_d2.prediction.images import read_image
from detr_d2.prediction.tiling import Grid, Segmented, predict_by_tiles, stitch, tile_grid

STUFF, THING, OTHER_THING = 0, 1, 2


@st.composite
def photos(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A map of segments (H, W), 0 is void, and each number's class: things hang together, stuff is once a class."""
    seed = draw(st.integers(0, 2**32 - 1))
    height, width, grain = draw(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6)))
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-1, 4, (height // grain + 1, width // grain + 1))
    classes = coarse.repeat(grain, 0).repeat(grain, 1)[:height, :width]
    ids = np.zeros((height, width), np.int32)
    of_id = [-1]
    for category in range(4):
        regions, count = label(classes == category)
        count = count if is_thing(category) else min(count, 1)
        ids += np.where(regions > 0, np.minimum(regions, count) + len(of_id) - 1, 0).astype(np.int32)
        of_id += [category] * count
    return ids, np.array(of_id)


def is_thing(category: int) -> bool:
    return category in (THING, OTHER_THING)


def cut(ids: np.ndarray, classes: np.ndarray, grid: Grid) -> Iterator[Segmented]:
    """What a perfect model would say of each tile; its ids have nothing to do with those of other tiles."""
    rng = np.random.default_rng(0)
    for window in grid.windows(ids):
        shown = np.unique(window[window > 0])
        local = np.zeros(len(classes), np.int32)
        local[shown] = rng.permutation(len(shown)) + 1
        segments = [
            {"id": int(local[n]), "category_id": int(classes[n]), "isthing": is_thing(classes[n]), "score": 0.5}
            for n in shown
        ]
        yield local[window], segments


def stitched(ids: np.ndarray, classes: np.ndarray, tile: int, overlap: int) -> Segmented:
    grid = tile_grid((ids.shape[0], ids.shape[1]), tile, overlap)
    return stitch(grid, cut(ids, classes, grid))


def rectangles(size: tuple[int, int], *corners: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Things of one class (top, left, bottom, right) on stuff."""
    ids = np.ones(size, np.int32)
    for number, (top, left, bottom, right) in enumerate(corners, 2):
        ids[top:bottom, left:right] = number
    return ids, np.array([-1, STUFF, *[THING] * len(corners)])


@settings(deadline=None, max_examples=200)
@given(photos(), st.data())
def test_a_map_cut_into_tiles_is_stitched_to_itself(photo: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    tile = data.draw(st.integers(2, 45), label="tile")
    overlap = data.draw(st.integers(1, tile - 1), label="overlap")
    ids, classes = photo

    found, segments = stitched(ids, classes, tile, overlap)

    pairs = np.unique(np.stack([ids.ravel(), found.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    assert ((found == 0) == (ids == 0)).all()
    was = dict(zip(pairs[1].tolist(), pairs[0].tolist()))
    assert [segment["category_id"] for segment in segments] == [classes[was[segment["id"]]] for segment in segments]


@settings(deadline=None, max_examples=100)
@given(photos(), st.data())
def test_ids_partition_the_photo_and_areas_are_those_of_the_map(
    photo: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    tile = data.draw(st.integers(2, 45), label="tile")
    grid = tile_grid(photo[0].shape, tile, data.draw(st.integers(1, tile - 1), label="overlap"))
    rng = np.random.default_rng(0)
    shuffled = [(rng.permutation(ids.ravel()).reshape(ids.shape), segments) for ids, segments in cut(*photo, grid)]

    found, segments = stitch(grid, shuffled)

    assert found.dtype == np.int32
    areas = np.bincount(found.ravel())
    assert [segment["id"] for segment in segments] == list(range(1, len(segments) + 1))
    assert [segment["area"] for segment in segments] == areas[1:].tolist()
    stuff = [segment["category_id"] for segment in segments if not segment["isthing"]]
    assert len(stuff) == len(set(stuff))


@given(st.integers(1, 300), st.integers(2, 120), st.data())
def test_tiles_share_the_overlap_and_their_own_parts_follow_one_another(
    length: int, tile: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(1, tile - 1), label="overlap")

    spans = tile_grid((length, 1), tile, overlap).rows

    assert spans[0].start == spans[0].own_start == 0
    assert spans[-1].stop == spans[-1].own_stop == length
    assert all(span.stop - span.start == min(tile, length) for span in spans)
    for span, following in pairwise(spans):
        assert span.stop - following.start >= overlap
        assert span.own_stop == following.own_start
        assert abs((span.stop - span.own_stop) - (following.own_start - following.start)) <= 1


def test_a_thing_across_four_tiles_has_one_id() -> None:
    ids, classes = rectangles((100, 100), (30, 30, 70, 70))

    found, segments = stitched(ids, classes, 60, 20)

    assert [segment["isthing"] for segment in segments] == [False, True]
    assert len(np.unique(found[30:70, 30:70])) == 1
    assert segments[1]["area"] == 1600


def test_two_touching_things_of_one_class_stay_two() -> None:
    ids, classes = rectangles((100, 100), (10, 20, 40, 90), (40, 20, 80, 90))

    found, segments = stitched(ids, classes, 60, 20)

    assert len(segments) == 3
    assert len(np.unique(found[10:40, 20:90])) == len(np.unique(found[40:80, 20:90])) == 1


def test_stuff_is_once_even_where_its_parts_share_no_tile() -> None:
    ids = np.zeros((20, 200), np.int32)
    ids[:, :10] = ids[:, 190:] = 1

    _, segments = stitched(ids, np.array([-1, STUFF]), 40, 10)

    assert segments == [{"id": 1, "isthing": False, "category_id": STUFF, "score": 0.5, "area": 400}]


def test_parts_that_see_little_of_each_other_stay_two() -> None:
    grid = tile_grid((10, 100), 60, 20)
    thing = {"id": 1, "category_id": THING, "isthing": True, "score": 0.9}
    left, right = np.zeros((10, 60), np.int32), np.zeros((10, 60), np.int32)
    left[:, 20:50], right[:, 8:40] = 1, 1  # both see columns 40 to 60; in common they have 48 and 49

    _, segments = stitch(grid, [(left, [thing]), (right, [thing])])

    assert [segment["area"] for segment in segments] == [300, 300]


def test_things_of_two_classes_aren_t_joined() -> None:
    grid = tile_grid((10, 100), 60, 20)
    whole = np.ones((10, 60), np.int32)
    parts = [(whole, [{"id": 1, "category_id": category, "isthing": True}]) for category in (THING, OTHER_THING)]

    found, segments = stitch(grid, parts)

    assert [segment["category_id"] for segment in segments] == [THING, OTHER_THING]
    assert (found[:, :50] == 1).all()  # each pixel is of the tile whose border is farther away
    assert (found[:, 50:] == 2).all()


def test_a_joined_score_is_the_mean_by_area() -> None:
    grid = tile_grid((10, 100), 80, 60)
    whole = np.ones((10, 80), np.int32)
    scores = {(0, 50): 0.9, (50, 100): 0.7}

    _, segments = stitch(
        grid, [(whole, [{"id": 1, "category_id": THING, "isthing": True, "score": s}]) for s in scores.values()]
    )

    assert [segment["score"] for segment in segments] == [pytest.approx(0.8)]


@pytest.mark.parametrize("tile", [30, 31, 1024])
def test_one_tile_changes_nothing(tile: int) -> None:
    ids, _ = rectangles((30, 20), (3, 3, 9, 9))
    segments = [
        {"id": 1, "isthing": False, "category_id": STUFF, "score": 0.8, "area": 564},
        {"id": 2, "isthing": True, "category_id": THING, "score": 0.7, "area": 36},
    ]

    found, found_segments = stitch(tile_grid((30, 20), tile, 8), [(ids, segments)])

    assert (found == ids).all()
    assert found_segments == segments


def test_a_photo_of_one_pixel_is_one_tile() -> None:
    assert list(tile_grid((1, 1))) == [((0, 1, 0, 1), (0, 1, 0, 1))]


@pytest.mark.parametrize(("tile", "overlap"), [(64, 64), (64, 100), (64, 0), (1, 0), (64, -1)])
def test_an_overlap_that_can_t_be_is_refused(tile: int, overlap: int) -> None:
    with pytest.raises(ConfigError, match=f"tiles of {tile} pixels with an overlap of {overlap}; allowed"):
        tile_grid((100, 100), tile, overlap)


def test_results_that_don_t_belong_to_the_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(10, 10\); its tile is \(30, 20\)"):
        stitch(tile_grid((30, 20)), [(np.zeros((10, 10), np.int32), [])])


class Halves:
    """In place of a model: what is bright is a thing, the rest is stuff; ids and segments of the image alone."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        self.sizes += [image.shape for image in images]
        return [self.predict(image) for image in images]

    def predict(self, image: np.ndarray) -> Prediction:
        ids = np.where(image[:, :, 0] > 127, 2, 1)
        segments = [{"id": 1, "category_id": 7, "score": 0.5}, {"id": 2, "category_id": 4, "score": 0.5}]
        return Prediction(
            image, ids, segments, [Category(4, "block", True, (0, 0, 0)), Category(7, "sky", False, (0, 0, 0))]
        )


def test_a_photo_by_tiles_is_predicted_as_the_whole_would_be() -> None:
    image = np.zeros((90, 130, 3), np.uint8)
    image[20:70, 15:100] = 255
    model = Halves()

    found = predict_by_tiles(model, image, 50, 20, batch=4, name="drone.jpg")

    assert found.panoptic is not None
    assert set(model.sizes) == {(50, 50, 3)}
    assert len(np.unique(found.panoptic[image[:, :, 0] > 127])) == 1
    facts = [(one["category"], one["score"], one["area"]) for one in found.segments]
    assert sorted(facts) == [("block", 0.5, 50 * 85), ("sky", 0.5, 90 * 130 - 50 * 85)]
    assert (found.name, found.image.shape) == ("drone.jpg", image.shape)


def test_a_photo_no_larger_than_a_tile_is_predicted_as_ever(predictor: Predictor, photo: Path) -> None:
    image = read_image(photo)

    whole, tiled = predictor(image), predict_by_tiles(predictor, image, 160, 40)

    assert whole.panoptic is not None and tiled.panoptic is not None
    assert (tiled.panoptic == whole.panoptic).all()
    assert tiled.segments == whole.segments


def test_a_model_without_masks_has_nothing_to_stitch(boxes_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="no mask head"):
        predict_by_tiles(Predictor(boxes_checkpoint, device="cpu"), np.zeros((64, 64, 3), np.uint8))
