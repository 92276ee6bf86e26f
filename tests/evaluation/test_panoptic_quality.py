"""Panoptic quality against panopticapi, on real ground truth and on random maps, and its own promises."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from detr_d2.data import read_panoptic_png
from detr_d2.evaluation.panoptic_quality import PanopticQuality

REAL_DATASETS = {
    "coco128_panoptic": ("coco128_panoptic/val/panoptic.json", "coco128_panoptic/val/panoptic"),
    "coco_sample": ("coco_sample/panoptic.json", "coco_sample/panoptic"),
}

Segments = list[dict[str, Any]]
#: An image: true map, true segments, predicted map, predicted segments.
Pair = tuple[np.ndarray, Segments, np.ndarray, Segments]


def save_png(ids: np.ndarray, path: Path) -> None:
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1)
    Image.fromarray(rgb.astype(np.uint8)).save(path)


def by_panopticapi(pairs: list[Pair], is_thing: dict[int, bool], folder: Path) -> tuple[Any, dict[str, dict]]:
    """panopticapi's sums for each class, and its means over All, Things and Stuff."""
    evaluation = pytest.importorskip("panopticapi.evaluation")
    categories = {label: {"id": label, "isthing": int(flag)} for label, flag in is_thing.items()}
    matched = []
    for number, (true_map, true_segments, predicted_map, predicted_segments) in enumerate(pairs):
        save_png(true_map, folder / f"true_{number}.png")
        save_png(predicted_map, folder / f"predicted_{number}.png")
        gt = {"image_id": number, "file_name": f"true_{number}.png", "segments_info": true_segments}
        prediction = {"image_id": number, "file_name": f"predicted_{number}.png"}
        prediction["segments_info"] = [dict(segment) for segment in predicted_segments]
        matched.append((gt, prediction))
    with contextlib.redirect_stdout(io.StringIO()):
        sums = evaluation.pq_compute_single_core(0, matched, str(folder), str(folder), categories)
    means = {}
    for name, kind in (("All", None), ("Things", True), ("Stuff", False)):
        with contextlib.suppress(ZeroDivisionError):
            means[name] = sums.pq_average(categories, isthing=kind)[0]
    return sums, means


def assert_same_as_panopticapi(pairs: list[Pair], is_thing: dict[int, bool], folder: Path) -> PanopticQuality:
    sums, means = by_panopticapi(pairs, is_thing, folder)
    ours = PanopticQuality(len(is_thing))
    for pair in pairs:
        ours.update(*pair)
    for label in is_thing:
        theirs = sums[label]
        counts = (ours.true_positives[label], ours.false_positives[label], ours.false_negatives[label])
        assert counts == (theirs.tp, theirs.fp, theirs.fn)
        assert ours.iou[label] == theirs.iou  # to the last bit
    for name, labels in groups_of(is_thing).items():
        mean = ours.average(labels)
        if name in means:
            assert (mean.pq, mean.sq, mean.rq, mean.n) == tuple(means[name][key] for key in ("pq", "sq", "rq", "n"))
        else:
            assert mean.n == 0 and math.isnan(mean.pq)
    return ours


def groups_of(is_thing: dict[int, bool]) -> dict[str, list[int]]:
    return {
        "All": list(is_thing),
        "Things": [label for label, flag in is_thing.items() if flag],
        "Stuff": [label for label, flag in is_thing.items() if not flag],
    }


def segments_of(ids: np.ndarray, classes: dict[int, int], crowds: frozenset[int] = frozenset()) -> Segments:
    found, areas = np.unique(ids, return_counts=True)
    return [
        {"id": i, "category_id": classes[i], "area": area, "iscrowd": int(i in crowds)}
        for i, area in zip(found.tolist(), areas.tolist())
        if i
    ]


def real_gt(root: Path, name: str) -> tuple[list[tuple[np.ndarray, Segments]], dict[int, bool]]:
    """Maps and segments with contiguous classes, and which classes are things."""
    json_file, png_folder = (root / part for part in REAL_DATASETS[name])
    if not json_file.is_file():
        pytest.skip(f"no real data: {json_file} isn't there")
    content = json.loads(json_file.read_text())
    labels = {category["id"]: label for label, category in enumerate(content["categories"])}
    gt = []
    for entry in content["annotations"]:
        segments = [{**segment, "category_id": labels[segment["category_id"]]} for segment in entry["segments_info"]]
        gt.append((read_panoptic_png(str(png_folder / entry["file_name"])), segments))
    return gt, {labels[category["id"]]: bool(category["isthing"]) for category in content["categories"]}


def spoil(ids: np.ndarray, segments: Segments, how: str, num_classes: int, rng: np.random.Generator) -> Pair:
    """A prediction that is wrong in one way, or (how = "all") in every way."""
    predicted = ids.copy()
    classes = {segment["id"]: segment["category_id"] for segment in segments}
    known = list(classes)
    if how in ("shifted", "all"):
        predicted = np.roll(predicted, (5, 9), axis=(0, 1))
    if how in ("merged", "all") and len(known) > 1:
        predicted[predicted == known[0]] = known[1]
    if how in ("split", "all"):
        new = max(known) + 1
        classes[new] = classes[known[-1]]
        right = np.arange(ids.shape[1])[None, :] > np.median(np.nonzero(predicted == known[-1])[1])
        predicted[(predicted == known[-1]) & right] = new
    if how in ("relabelled", "all"):
        classes.update({i: int(rng.integers(num_classes)) for i in known[::3]})
    if how in ("dropped", "all"):
        predicted[np.isin(predicted, known[1::4])] = 0
    if how in ("void", "all"):
        new = max(classes) + 7
        classes[new] = classes[known[0]]
        predicted[ids == 0] = new
    return ids, segments, predicted, segments_of(predicted, classes)


@pytest.mark.parametrize("how", ["exact", "shifted", "merged", "split", "relabelled", "dropped", "void", "all"])
@pytest.mark.parametrize("name", REAL_DATASETS)
def test_quality_equals_panopticapi_on_real_ground_truth(
    name: str, how: str, shared_data: Path, tmp_path: Path
) -> None:
    gt, is_thing = real_gt(shared_data, name)
    rng = np.random.default_rng(0)
    pairs = [spoil(ids, segments, how, len(is_thing), rng) for ids, segments in gt[:12]]

    quality = assert_same_as_panopticapi(pairs, is_thing, tmp_path)

    mean = quality.average(list(is_thing))
    assert mean.pq == 1 if how == "exact" else 0 < mean.pq < 1 or how == "void"


def test_quality_equals_panopticapi_on_real_crowds(shared_data: Path, tmp_path: Path) -> None:
    gt, is_thing = real_gt(shared_data, "coco128_panoptic")
    crowded = [(ids, segments) for ids, segments in gt if any(s["iscrowd"] for s in segments)]
    assert crowded
    rng = np.random.default_rng(1)

    pairs = [spoil(*image, how, len(is_thing), rng) for image in crowded for how in ("exact", "split", "shifted")]

    assert_same_as_panopticapi(pairs, is_thing, tmp_path)


@st.composite
def random_pairs(draw: st.DrawFn) -> Pair:
    """Blocky maps of up to six ids, some of them crowds; the prediction is a damaged copy with its own classes."""
    cells = st.lists(st.integers(0, 5), min_size=16, max_size=16)
    true_map = np.array(draw(cells)).reshape(4, 4)
    copied = np.array(draw(st.lists(st.booleans(), min_size=16, max_size=16))).reshape(4, 4)
    predicted_map = np.where(copied, true_map, np.array(draw(cells)).reshape(4, 4))
    classes = st.lists(st.integers(0, 3), min_size=6, max_size=6)
    true_classes = dict(enumerate(draw(classes)))
    predicted_classes = true_classes if draw(st.booleans()) else dict(enumerate(draw(classes)))
    crowds = draw(st.frozensets(st.integers(1, 5), max_size=2))
    grown = np.repeat(np.repeat(true_map, 2, axis=0), 3, axis=1)
    grown_prediction = np.repeat(np.repeat(predicted_map, 2, axis=0), 3, axis=1)
    true_segments = segments_of(grown, true_classes, crowds)
    return grown, true_segments, grown_prediction, segments_of(grown_prediction, predicted_classes)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(random_pairs(), min_size=1, max_size=3))
def test_quality_equals_panopticapi_on_random_maps(tmp_path: Path, pairs: list[Pair]) -> None:
    assert_same_as_panopticapi(pairs, {0: True, 1: True, 2: False, 3: False}, tmp_path)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(random_pairs(), min_size=2, max_size=4))
def test_quality_of_parts_merges_to_the_whole(pairs: list[Pair]) -> None:
    whole, first, second = (PanopticQuality(4) for _ in range(3))
    for number, pair in enumerate(pairs):
        whole.update(*pair)
        (first if number == 0 else second).update(*pair)

    first.merge(second)

    np.testing.assert_allclose(first.iou, whole.iou, atol=1e-12)
    for counts in ("true_positives", "false_positives", "false_negatives"):
        np.testing.assert_array_equal(getattr(first, counts), getattr(whole, counts))


def test_absent_classes_are_absent_not_zero() -> None:
    quality = PanopticQuality(3)
    ids = np.ones((4, 4), dtype=np.int64)
    quality.update(ids, [{"id": 1, "category_id": 2, "iscrowd": 0}], ids, [{"id": 1, "category_id": 2}])

    assert quality.average([0, 1, 2]).pq == 1 and quality.average([0, 1, 2]).n == 1
    assert quality.average([0, 1]).n == 0 and math.isnan(quality.average([0, 1]).pq)
    assert quality.of_class(0).n == 0


def test_stale_area_in_the_json_changes_nothing() -> None:
    quality = PanopticQuality(1)
    ids = np.ones((4, 4), dtype=np.int64)

    quality.update(ids, [{"id": 1, "category_id": 0, "iscrowd": 0, "area": 1}], ids, [{"id": 1, "category_id": 0}])

    assert quality.of_class(0).pq == 1


def contradictions() -> Iterator[tuple[str, np.ndarray, Segments]]:
    ids = np.ones((2, 3), dtype=np.int64)
    yield "only in the map [1]", ids, []
    yield "only in segments_info [5]", ids, [{"id": 1, "category_id": 0}, {"id": 5, "category_id": 0}]
    yield "outside of 0 ... 1 [2]", ids, [{"id": 1, "category_id": 2}]
    yield "only in segments_info [0]", ids, [{"id": 0, "category_id": 0}, {"id": 1, "category_id": 0}]
    yield "has the id -1", ids - 2, []
    yield "3 x 2", ids.T, [{"id": 1, "category_id": 0}]


@pytest.mark.parametrize(("said", "ids", "segments"), list(contradictions()))
def test_prediction_that_contradicts_itself_is_refused(said: str, ids: np.ndarray, segments: Segments) -> None:
    quality = PanopticQuality(2)

    with pytest.raises(ValueError) as error:
        quality.update(np.ones((2, 3), dtype=np.int64), [{"id": 1, "category_id": 0}], ids, segments)

    assert said in str(error.value)
    assert quality.average([0, 1]).n == 0
