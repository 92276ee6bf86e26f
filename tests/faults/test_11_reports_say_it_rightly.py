"""What reports, tables and files say is right: advice to be followed, plurals, JSON without NaN, tables that fit."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from detr_d2.evaluation import build_evaluator
from detr_d2.evaluation.report.next_steps import next_steps
from detr_d2.training.evaluation_log import EvaluationLog
from tests.faults.evaluation_folders import (
    CATEGORIES,
    HEIGHT,
    WIDTH,
    record_of_maps,
    run_here,
    segment_map,
    write_evaluation,
    write_panoptic,
)
from tests.made_evaluations import config, predict, write_dataset

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances


def strict(text: str) -> Any:
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def steps_of(folder: Path, records: list[dict[str, Any]], run_config: str = "") -> dict[str, dict[str, Any]]:
    """What the report of an evaluation advises, by title."""
    write_evaluation(folder / "run", config=run_config)
    (folder / "run" / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    done = run_here("report", folder / "run", "--resamples", "10", cwd=folder)
    assert done.returncode == 0, done.stderr
    return {step["title"]: step for step in strict((folder / "run" / "report.json").read_text())["next_steps"]}


def only_stuff(number: int) -> np.ndarray:
    """The scene without its things."""
    ids = np.ones((HEIGHT, WIDTH), np.int64)
    ids[20:] = 300
    return ids


def settings(**keys: Any) -> str:
    return json.dumps({"MODEL": {"DETR": keys}})


MISSED = [record_of_maps(number, segment_map(number % 5), only_stuff(number)) for number in range(15)]


@pytest.mark.parametrize(
    ("run_config", "score"),
    [
        (settings(SCORE_THRESHOLD=0.0), 0.9),
        (settings(SCORE_THRESHOLD=0.85, CLASS_SCORE_THRESHOLDS=[0.0, 0.0, 0.5, 0.5]), 0.9),
        ("", 0.01),
    ],
    ids=["the config says so", "the classes' own", "the scores show it"],
)
def test_lower_threshold_is_not_advised_where_it_is_zero_already(run_config: str, score: float, tmp_path: Path) -> None:
    records = [record_of_maps(n, segment_map(n % 5), only_stuff(n), score) for n in range(15)]

    steps = steps_of(tmp_path, records, run_config)

    assert "Try a lower score threshold" not in steps


def test_lower_threshold_is_advised_where_there_is_one(tmp_path: Path) -> None:
    assert "Try a lower score threshold" in steps_of(tmp_path, MISSED, settings(SCORE_THRESHOLD=0.85))


@pytest.mark.parametrize("run_config", ["[" * 10_000, "a: [", "MODEL: 3", "7", settings(SCORE_THRESHOLD="x")])
def test_config_that_says_nothing_of_thresholds_is_passed_over(run_config: str, tmp_path: Path) -> None:
    assert "Try a lower score threshold" in steps_of(tmp_path, MISSED, run_config)


def test_model_that_finds_nothing_is_said_to_lack_all_its_classes(tmp_path: Path) -> None:
    nothing = np.zeros((HEIGHT, WIDTH), np.int64)
    records = [record_of_maps(n, segment_map(n % 5), nothing) for n in range(2)]

    steps = steps_of(tmp_path, records)

    assert next(iter(steps)) == "The model finds none of the 4 classes"
    assert not any(word in title for title in steps for word in ("never finds", "missed", "threshold", "small"))


def test_classes_that_are_never_found_are_all_counted(tmp_path: Path) -> None:
    gone, rare = segment_map(0), segment_map(0)
    gone[gone == 2] = 1
    rare[(rare == 2) | (rare == 4)] = 1
    found = only_stuff(0)
    # A drum in six images and a cone in one of them: neither is ever found.
    records = [record_of_maps(n, gone if n else segment_map(0), found) for n in range(6)]

    steps = steps_of(tmp_path, records)

    assert "Look at the 2 classes that the model never finds" in steps
    assert "drum (6)" in steps["Look at the 2 classes that the model never finds"]["why"]


def test_loose_borders_are_advised_on_where_they_cost_most(tmp_path: Path) -> None:
    records = [record_of_maps(n, segment_map(n % 5), segment_map(n % 5 + 2)) for n in range(12)]

    steps = steps_of(tmp_path, records, json.dumps({"INPUT": {"MASK_STRIDE": 4}}))

    step = steps["Sharpen the borders"]
    assert step["gain"] == max(one["gain"] or 0 for one in steps.values()) > 5
    for word in ("mask head", "INPUT.MASK_STRIDE is 4", "MIN_SIZE_TEST", "detr-d2 browse"):
        assert word in step["why"]


def test_mask_stride_is_not_blamed_where_masks_are_whole(tmp_path: Path) -> None:
    records = [record_of_maps(n, segment_map(n % 5), segment_map(n % 5 + 2)) for n in range(12)]

    steps = steps_of(tmp_path, records, json.dumps({"INPUT": {"MASK_STRIDE": 1}}))

    assert "MASK_STRIDE" not in steps["Sharpen the borders"]["why"]


@pytest.mark.parametrize(("overlap", "advised"), [(0.0, True), (0.5, True), (0.95, False)])
def test_higher_overlap_threshold_is_advised_where_there_is_room(overlap: float, advised: bool) -> None:
    content = {
        "mistakes": [{"kind": "duplicate", "count": 9, "gives_back": {"All": 4.0}, "classes": {"cone": 9}}],
        "settings": {"overlap_threshold": overlap},
    }

    why = _kinds_only(content)[0]["why"]

    assert ("higher MODEL.DETR.OVERLAP_THRESHOLD" in why) == advised


def _kinds_only(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a report that has nothing else to say."""
    calm: dict[str, Any] = {
        **{"All": {"PQ": 80.0, "SQ": 85.0, "RQ": 90.0, "N": 1}, "classes": [], "confusions": []},
        **{"dropping": {"area": None, "score": None}, "ignored_on_void": 0},
        "sizes": {size: {"All": {"PQ": None}, "true_segments": 0} for size in ("small", "medium", "large")},
        "reliability": {"All": {"overconfidence": None, "segments": 0, "bins": []}},
        "ground_truth": {"void_share": None, "images": 1},
    }
    kinds = ("missed", "made_up", "on_void", "loose_borders", "duplicate")
    known = {entry["kind"] for entry in content["mistakes"]}
    rest = [
        {"kind": kind, "count": 0, "gives_back": {"All": 0.0}, "classes": {}} for kind in kinds if kind not in known
    ]
    return next_steps(calm | content | {"mistakes": [*content["mistakes"], *rest]})


@pytest.mark.parametrize("command", ["pq", "compare", "report"])
def test_one_is_no_plural(command: str, tmp_path: Path) -> None:
    gt = write_panoptic(tmp_path, "truth", images=1)
    first, second = write_evaluation(tmp_path / "a", images=1), write_evaluation(tmp_path / "b", images=1, shift=1)
    words = {
        "pq": ["pq", "--gt", gt, "--pred", gt],
        "compare": ["compare", first, second, "--resamples", "1"],
        "report": ["report", first],
    }[command]

    done = run_here(*words, cwd=tmp_path)

    assert done.returncode == 0
    page = {"compare": second / "compare.html", "report": first / "report.html"}.get(command)
    text = done.stdout + (page.read_text() if page else "")
    for wrong in ("1 images", "1 draws", "1 classes", "1 true segments", "1 segments", "1 crowds", "The worst 1<"):
        assert not any(
            line.startswith(wrong) or f" {wrong}" in line or f">{wrong}" in line for line in text.split("\n")
        )


def test_differing_images_of_one_are_singular(tmp_path: Path) -> None:
    first, second = write_evaluation(tmp_path / "a", images=2), write_evaluation(tmp_path / "b", images=3)

    done = run_here("compare", first, second, cwd=tmp_path)

    assert "0 images are only in" in done.stderr and "1 only in" in done.stderr


def test_scores_that_are_no_numbers_leave_strict_json(tmp_path: Path) -> None:
    name = write_dataset(tmp_path / "data", images=2)
    cfg = config(instance_on=False)
    cfg.TEST.PANOPTIC_PNG = True
    evaluator = build_evaluator(cfg, name, str(tmp_path / "out"))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        output = predict(record)
        for number, segment in enumerate(output["panoptic_seg"][1]):
            segment["score"] = [float("nan"), float("inf"), torch.tensor(float("nan")), 0.5][number % 4]
        evaluator.process([record], [output])

    evaluator.evaluate()

    for path in (*(tmp_path / "out").glob("*.json"), *(tmp_path / "out").glob("*.jsonl")):
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            strict(line)
    assert strict((tmp_path / "out" / "records.jsonl").read_text().splitlines()[0])["predicted"][0]["score"] is None


def test_log_of_evaluations_is_strict_json(tmp_path: Path) -> None:
    log = EvaluationLog(1, str(tmp_path))
    median: Callable[[int], float] = lambda count: float("nan")  # noqa: E731
    history = SimpleNamespace(latest=lambda: float("inf"), median=median)
    storage = SimpleNamespace(iter=9, histories=lambda: {"lr": history, "total_loss": history})
    results = {"panoptic_seg": {"PQ": float("nan"), "SQ": np.float32("inf"), "odd": None, "list": [1], "RQ": 5.0}}
    log.trainer = SimpleNamespace(storage=storage, _last_eval_results=results)  # type: ignore[assignment]

    log.evaluated(is_last=True)

    line = strict((tmp_path / "evaluations.jsonl").read_text())
    assert line["panoptic_seg/RQ"] == 5.0
    assert {line[key] for key in ("lr", "total_loss", "panoptic_seg/PQ", "panoptic_seg/SQ", "panoptic_seg/odd")} == {
        None
    }


def test_numbers_of_absent_classes_are_null_in_every_json(tmp_path: Path) -> None:
    extra = [*CATEGORIES, {"id": 77, "name": "never seen", "isthing": 1}]
    gt = write_panoptic(tmp_path, "truth", categories=extra)
    first, second = write_evaluation(tmp_path / "a"), write_evaluation(tmp_path / "b", shift=1)
    for folder in (first, second):
        run = json.loads((folder / "run.json").read_text())
        run["categories"].append({"id": 77, "name": "never seen", "is_thing": True, "color": [1, 2, 3]})
        (folder / "run.json").write_text(json.dumps(run))

    run_here("pq", "--gt", gt, "--pred", gt, "--bootstrap", "5", "--json", "pq.json", cwd=tmp_path)
    run_here("compare", first, second, "--json", "compare.json", "--resamples", "5", cwd=tmp_path)
    run_here("report", first, "--resamples", "5", cwd=tmp_path)

    for path in (tmp_path / "pq.json", tmp_path / "compare.json", first / "report.json"):
        content = strict(path.read_text())
        assert content["classes"][-1]["name"] == "never seen"
        assert content["classes"][-1].get("PQ", content["classes"][-1].get("before")) is None


def test_boxes_that_are_no_numbers_are_taken_from_the_png(tmp_path: Path) -> None:
    from detr_d2.data import categories_of
    from detr_d2.evaluation.builder import things_as_coco

    name = write_dataset(tmp_path / "data", images=1)
    records = DatasetCatalog.get(name)
    expected = things_as_coco(records, categories_of(name))
    for segment, box in zip(records[0]["segments_info"], ("x", [1], [float("nan")] * 4, None, [1e308] * 4)):
        segment["bbox"] = box

    assert things_as_coco(records, categories_of(name)) == expected


def test_average_precision_of_many_classes_stands_in_several_columns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"class{number:02d}" for number in range(80)]
    gt = {
        "info": {},
        "images": [{"id": 1, "file_name": "1.jpg", "height": 50, "width": 50}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}],
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(names)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(gt))
    metadata = MetadataCatalog.get(f"columns {tmp_path}")
    metadata.set(
        json_file=str(tmp_path / "truth.json"),
        thing_classes=names,
        thing_dataset_id_to_contiguous_id={number + 1: number for number in range(80)},
    )
    evaluator = COCOEvaluator(metadata.name, tasks=("bbox",), output_dir=str(tmp_path))
    instances = Instances((50, 50))
    instances.pred_boxes = Boxes(torch.tensor([[5.0, 5.0, 25.0, 25.0]]))
    instances.scores, instances.pred_classes = torch.tensor([0.9]), torch.tensor([0])

    with caplog.at_level(logging.INFO):
        evaluator.reset()
        evaluator.process([{"image_id": 1}], [{"instances": instances}])
        results = evaluator.evaluate()

    assert results["bbox"]["AP-class00"] == pytest.approx(100)
    rows = [line for line in caplog.text.splitlines() if "class" in line and "|" in line]
    assert all(any(name in row for row in rows) for name in names)
    assert len(rows) < 40
