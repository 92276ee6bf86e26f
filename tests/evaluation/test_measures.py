"""What is measured beside panoptic quality, against plain formulas and published numbers."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from detr_d2.data import Category, read_panoptic_png
from detr_d2.evaluation.bootstrap import bootstrap_intervals
from detr_d2.evaluation.measures import PanopticMeasures, size_of
from detr_d2.evaluation.overlaps import INSIDE, Overlaps, boundary_map, boundary_overlaps, boundary_width
from detr_d2.evaluation.records import EvaluationRecord, make_record
from detr_d2.evaluation.results import evaluation_results, group_labels, measures_as_json

IS_THING = [True, True, False, False]
CATEGORIES = [Category(i, f"c{i}", flag, (0, 0, 0)) for i, flag in enumerate(IS_THING)]
#: Boundary PQ, SQ, RQ and N, and true positives, false positives, false negatives, by the published code.
PUBLISHED, PUBLISHED_COUNTS = (0.3771060441749617, 0.46189098258451533, 0.5915842141585846, 84), [176, 90, 140]


def record(
    true_map: np.ndarray, true: dict[int, int], predicted_map: np.ndarray, predicted: dict[int, int], crowds: Any = ()
) -> EvaluationRecord:
    """A record of maps (H, W) and the class of each id."""
    height, width = true_map.shape
    segments = [{"id": i, "category_id": c, "iscrowd": int(i in crowds)} for i, c in true.items()]
    image = {"image_id": 1, "file_name": "", "height": height, "width": width, "pan_seg_file_name": ""}
    boundaries = boundary_overlaps(true_map, predicted_map, boundary_width(height, width))
    found = [{"id": i, "category_id": c} for i, c in predicted.items()]
    return make_record(image | {"segments_info": segments}, Overlaps(true_map, predicted_map), found, boundaries)


def measured(*records: EvaluationRecord, is_thing: list[bool] = IS_THING) -> PanopticMeasures:
    measures = PanopticMeasures(is_thing)
    for one in records:
        measures.add(one)
    return measures


blocks = st.tuples(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(blocks, st.integers(1, 5))
def test_boundary_is_what_erosion_by_a_square_takes_away(sizes: tuple[int, ...], width: int) -> None:
    seed, rows, columns, high, wide = sizes
    cells = np.random.default_rng(seed).integers(0, 4, (rows, columns))
    ids = np.kron(cells, np.ones((high, wide), np.int64)).astype(np.int64)

    expected = ids.copy()
    for i in set(np.unique(ids).tolist()) - {0}:
        expected[ndimage.binary_erosion(ids == i, np.ones((3, 3)), iterations=width)] = INSIDE

    assert (boundary_map(ids, width) == expected).all()


def test_boundary_width_is_two_percent_of_the_diagonal() -> None:
    assert boundary_width(480, 640) == 16 and boundary_width(3, 4) == 1


def test_an_image_adds_its_segments_to_what_is_kept_and_nothing_else() -> None:
    true_map = np.repeat([1, 2, 0, 3], 20)[None].repeat(20, axis=0)
    one = record(true_map, {1: 0, 2: 1, 3: 2}, np.roll(true_map, 4, axis=1), {1: 0, 2: 1, 3: 3})
    counts = len(one.compared.counts())

    few, many = (len(pickle.dumps(measured(*[one] * number))) for number in (100, 1100))

    assert many - few == pytest.approx(1000 * 8 * (5 * counts + 1), rel=0.01)


def real_records(folder: Path) -> tuple[list[EvaluationRecord], list[dict[str, Any]]]:
    """Real ground truth, moved by 5 and -4 pixels, every seventh segment left out; ids far from small numbers."""
    content = json.loads((folder / "panoptic.json").read_text())
    labels = {category["id"]: label for label, category in enumerate(content["categories"])}
    records = []
    for entry in content["annotations"]:
        ids = read_panoptic_png(str(folder / "panoptic" / entry["file_name"])).astype(np.int64)
        moved, found, classes = np.roll(ids, (5, -4), axis=(0, 1)), np.zeros_like(ids), {}
        for place, segment in enumerate(entry["segments_info"]):
            if place % 7 != 3:
                found[moved == segment["id"]] = 100_000 + 7 * place
                classes[100_000 + 7 * place] = labels[segment["category_id"]]
        true = {s["id"]: labels[s["category_id"]] for s in entry["segments_info"]}
        crowds = {s["id"] for s in entry["segments_info"] if s["iscrowd"]}
        records.append(record(ids, true, found, classes, crowds))
    return records, content["categories"]


def test_boundary_quality_is_that_of_the_published_code(shared_data: Path) -> None:
    """Recorded from boundary_iou 0.1 (coco_panoptic_api, dilation_ratio 0.02) on these very maps."""
    folder = shared_data / "coco128_panoptic" / "val"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} isn't there")
    records, categories = real_records(folder)

    boundary = measured(*records, is_thing=[bool(c["isthing"]) for c in categories]).boundary

    mean = boundary.average(range(len(categories)))
    assert (mean.pq, mean.sq, mean.rq, mean.n) == PUBLISHED
    counts = [int(x.sum()) for x in (boundary.true_positives, boundary.false_positives, boundary.false_negatives)]
    assert counts == PUBLISHED_COUNTS


def test_boundary_quality_sees_a_frayed_edge_that_quality_hardly_sees() -> None:
    true = np.zeros((100, 100), np.int64)
    true[10:90, 10:90] = 1
    frayed = true.copy()
    frayed[10:13:2, 10:90], frayed[10:90, 10:13:2] = 0, 0

    measures = measured(record(true, {1: 0}, frayed, {1: 0}))

    assert measures.quality.of_class(0).pq > 0.94
    assert measures.boundary.of_class(0).pq < 0.75


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_semantic_numbers_are_those_of_counting_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, found = rng.integers(0, 4, (2, 6, 7))
    true_class, found_class = {i: int(rng.integers(4)) for i in (1, 2, 3)}, {i: int(rng.integers(4)) for i in (1, 2, 3)}
    true_class = {i: c for i, c in true_class.items() if (true == i).any()}
    found_class = {i: c for i, c in found_class.items() if (found == i).any()}

    semantic = measured(record(true, true_class, found, found_class)).semantic()

    wanted = np.vectorize(lambda i: true_class.get(i, -1))(true)
    given_class = np.vectorize(lambda i: found_class.get(i, -2))(found)
    counted, ious, accuracies = wanted >= 0, [], []
    for label in sorted(set(true_class.values())):
        right = ((wanted == label) & (given_class == label)).sum()
        ious.append(right / (((wanted == label) | (given_class == label)) & counted).sum())
        accuracies.append(right / (wanted == label).sum())
    if ious:
        assert semantic["mIoU"] == pytest.approx(np.mean(ious)) and semantic["mACC"] == pytest.approx(
            np.mean(accuracies)
        )
        assert semantic["pACC"] == pytest.approx((wanted == given_class)[counted].mean())
    else:
        assert math.isnan(semantic["mIoU"])


def test_stuff_of_dagger_has_no_threshold_and_things_have_theirs() -> None:
    true, found = np.full((10, 10), 1), np.zeros((10, 10), np.int64)
    true[:, 5:], found[:4], found[:, 5:] = 2, 1, 2
    other = np.ones((10, 10), np.int64)

    measures = measured(
        record(true, {1: 2, 2: 0}, found, {1: 2, 2: 0}),  # 20 of 50 pixels of the stuff are found
        record(other, {1: 2}, np.zeros_like(other), {}),
    )

    assert measures.quality.of_class(2).pq == 0
    assert measures.dagger(2).pq == pytest.approx(0.4 / 2)
    assert measures.dagger(0).pq == measures.quality.of_class(0).pq == 1
    assert measures.dagger(1).n == 0 and measures.mean_dagger(range(4)) == pytest.approx((1 + 0.2) / 2)


def test_stuff_that_only_a_prediction_has_is_absent_in_dagger() -> None:
    ones = np.ones((4, 4), np.int64)

    measures = measured(record(ones, {1: 2}, ones, {1: 3}))

    assert measures.dagger(3).n == 0 and measures.quality.of_class(3).n == 1


def test_sizes_are_cocos() -> None:
    assert [size_of(n) for n in (1, 1023, 1024, 9215, 9216)] == ["small", "small", "medium", "medium", "large"]


def test_quality_by_size_goes_by_the_true_segment_and_by_itself_where_there_is_none() -> None:
    true, found = np.zeros((120, 200), np.int64), np.zeros((120, 200), np.int64)
    true[:100, :100], found[:100, :99] = 1, 1  # large, found
    true[:40, 110:150] = 2  # medium, missed
    found[50:60, 110:120], true[50:60, 110:120] = 3, 4  # small, of another class
    measures = measured(record(true, {1: 0, 2: 0, 4: 2}, found, {1: 0, 3: 1}))

    counts = {
        size: [int(x.sum()) for x in (q.true_positives, q.false_positives, q.false_negatives)]
        for size, q in measures.of_size.items()
    }

    assert counts == {"small": [0, 1, 1], "medium": [0, 0, 1], "large": [1, 0, 0]}


def test_parts_merge_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 4, (6, 2, 9, 9))
    records = [record(t, {1: 0, 2: 1, 3: 2}, p, {1: 0, 2: 2, 3: 2}) for t, p in maps]
    parts = [measured(*records[:2]), measured(*records[2:])]

    joined = PanopticMeasures(IS_THING)
    for part in parts:
        joined.merge(part)

    whole = measured(*records)
    intervals = [bootstrap_intervals(m.quality, group_labels(IS_THING), 20) for m in (joined, whole)]
    contents = [measures_as_json(m, CATEGORIES, i) for m, i in zip((joined, whole), intervals)]
    ours, theirs = map(evaluation_results, contents)
    assert list(ours) == list(theirs)
    for task in ours:
        assert ours[task] == pytest.approx(theirs[task], nan_ok=True)


def test_every_number_has_its_name_in_results_and_file() -> None:
    ones = np.ones((4, 4), np.int64)
    measures = measured(record(ones, {1: 2}, ones, {1: 2}))
    intervals = bootstrap_intervals(measures.quality, group_labels(IS_THING), 10)

    content = measures_as_json(measures, CATEGORIES, intervals)
    results = evaluation_results(content)

    assert list(results) == [
        *("panoptic_seg", "panoptic_interval", "panoptic_boundary", "panoptic_size", "panoptic_dagger", "sem_seg")
    ]
    assert results["panoptic_interval"]["PQ_low"] == 100 == results["panoptic_boundary"]["PQ_st"]
    assert results["panoptic_size"]["PQ_small"] == 100 and math.isnan(results["panoptic_size"]["PQ_large_th"])
    assert results["panoptic_dagger"]["PQ"] == results["sem_seg"]["mIoU"] == 100
    assert content["classes"][2]["IoU"] == content["classes"][2]["PQ_dagger"] == content["boundary"]["All"]["PQ"] == 100
    assert content["classes"][0]["PQ_small"] is None
    json.dumps(content, allow_nan=False)
