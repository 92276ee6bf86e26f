"""What the report advises: what the numbers ask for, the largest gain first, and nothing else."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from detr_d2.cli import main
from detr_d2.data import categories_of
from detr_d2.data.categories import Category
from detr_d2.evaluation.report import write_reports
from detr_d2.evaluation.report.analysis import Reliability
from detr_d2.evaluation.report.next_steps import next_steps
from detr_d2.evaluation.report.run_config import training_segments


@pytest.fixture
def numbers(content: dict[str, Any]) -> dict[str, Any]:
    """A report of which nothing is asked: every class is good, in many images, and surely so."""
    calm = copy.deepcopy(content)
    for entry in calm["mistakes"]:
        entry["count"], entry["gives_back"]["All"] = 0, 0.0
    for entry in calm["classes"]:
        entry |= {"PQ": 80.0, "true_segments": 50, "true_positives": 45, "images": 30, "training_segments": 500}
    calm["All"] |= {"PQ": 80.0, "SQ": 85.0, "N": 6, "PQ_interval": [79.0, 81.0]}
    calm["reliability"]["All"] |= {"overconfidence": 0.02}
    calm["ground_truth"]["void_share"] = 0.01
    calm["sizes"]["small"] |= {"true_segments": 0, "found": 0, "wrong": 0}
    return calm


def titles(numbers: dict[str, Any]) -> list[str]:
    return [step["title"] for step in next_steps(numbers)]


def test_nothing_is_advised_where_nothing_is_wrong(numbers: dict[str, Any]) -> None:
    assert titles(numbers) == []


def test_steps_come_by_what_they_give_back(content: dict[str, Any]) -> None:
    gains = [step["gain"] or 0.0 for step in content["next_steps"]]

    assert gains == sorted(gains, reverse=True) and gains[0] > 0


def test_confusions_are_named_with_their_numbers(numbers: dict[str, Any]) -> None:
    entry = next(entry for entry in numbers["mistakes"] if entry["kind"] == "wrong_class")
    entry["count"], entry["gives_back"]["All"] = 18, 2.5
    numbers["confusions"] = [{"true": "pipe", "predicted": "rod", "count": 18, "of": 60}]

    (step,) = next_steps(numbers)

    assert step["gain"] == 2.5 and "18 times, mostly pipe called rod (18 of 60)" in step["why"]


def test_class_that_is_never_found_gains_the_mean(numbers: dict[str, Any]) -> None:
    numbers["classes"][2] |= {"PQ": 0.0, "true_positives": 0, "training_segments": 3}

    (step,) = next_steps(numbers)

    assert "crane (50, 3 in training)" in step["why"] and step["gain"] == pytest.approx(80 / 6)


def test_class_that_is_rare_in_training_and_poor_wants_more(numbers: dict[str, Any]) -> None:
    numbers["classes"][1] |= {"PQ": 20.0, "training_segments": 12}

    assert titles(numbers) == ["Train on more of 1 rare class"]


@pytest.mark.parametrize(
    ("part", "change", "title"),
    [
        ("All", {"PQ_interval": [70.0, 90.0]}, "Evaluate on more images"),
        ("All", {"SQ": 60.0}, "Sharpen the borders"),
        ("ground_truth", {"void_share": 0.4}, "Much of the ground truth is void"),
    ],
)
def test_outstanding_number_is_named(numbers: dict[str, Any], part: str, change: dict[str, Any], title: str) -> None:
    numbers[part] |= change
    if title == "Sharpen the borders":
        _kind(numbers, "loose_borders")["gives_back"]["All"] = 5.0

    assert titles(numbers) == [title]


def test_borders_are_named_where_they_cost_most_or_are_poor(numbers: dict[str, Any]) -> None:
    _kind(numbers, "loose_borders")["gives_back"]["All"] = 5.0
    assert titles(numbers) == ["Sharpen the borders"]

    _kind(numbers, "missed")["gives_back"]["All"] = 6.0
    assert titles(numbers) == ["Find what is missed"]

    numbers["All"]["SQ"] = 60.0
    assert titles(numbers) == ["Find what is missed", "Sharpen the borders"]


@pytest.mark.parametrize(("excess", "word"), [(0.3, "overconfident"), (-0.3, "underconfident")])
def test_scores_that_mislead_are_named(numbers: dict[str, Any], excess: float, word: str) -> None:
    numbers["reliability"]["All"]["overconfidence"] = excess

    assert titles(numbers) == [f"The scores are {word}"]


def test_dropping_is_advised_where_small_segments_mostly_are_wrong(numbers: dict[str, Any]) -> None:
    numbers["sizes"]["small"] |= {"wrong": 52, "found": 3}

    (step,) = next_steps(numbers)

    assert "52 wrong predicted segments" in step["why"] and "MIN_SEGMENT_AREA" in step["why"]
    numbers["sizes"]["small"]["found"] = 30
    assert titles(numbers) == []


def test_threshold_is_to_be_higher_where_much_is_made_up_and_little_missed(numbers: dict[str, Any]) -> None:
    _kind(numbers, "made_up")["count"] = 60
    assert titles(numbers) == ["Try a higher score threshold"]

    _kind(numbers, "missed")["count"] = 21
    assert titles(numbers) == []


def test_threshold_is_to_be_lower_where_much_is_missed_and_little_made_up(numbers: dict[str, Any]) -> None:
    next(entry for entry in numbers["mistakes"] if entry["kind"] == "missed")["count"] = 90

    assert titles(numbers) == ["Try a lower score threshold"]


def test_expected_calibration_error_of_two_bins_is_the_mean_distance() -> None:
    found = Reliability()
    for score, is_right in ((0.9, True), (0.9, False), (0.3, False), (1.0, True)):
        found.add(score, is_right)

    # Bins: 0.90 to 0.95 with score 0.9 and half right; 0.3 and none right; 1.0 and all right.
    assert found.as_json()["ece"] == pytest.approx((2 * 0.4 + 0.3 + 0.0) / 4)
    assert found.as_json()["overconfidence"] == pytest.approx(3.1 / 4 - 0.5)


def test_training_segments_are_counted_where_the_dataset_is_there(tmp_path: Path) -> None:
    assert main(["yard", str(tmp_path / "yard"), "--train", "3", "--val", "1"]) == 0
    register = tmp_path / "yard" / "register.yaml"  # under another name: earlier tests may have registered a yard
    register.write_text(register.read_text().replace("name: yard_", "name: counted_"))
    config = yaml.safe_dump({"DATASETS": {"TRAIN": ["counted_train"], "REGISTER": [str(register)]}})

    counts = training_segments(config, _registered(config))

    assert counts is not None and sum(counts) > 10
    assert training_segments(config, [Category(1, "other", True, (0, 0, 0))]) is None
    assert training_segments("DATASETS: {TRAIN: [nowhere]}", []) is None and training_segments("", []) is None


def test_reports_are_written_of_the_datasets_that_have_records(run_folder: Path, tmp_path: Path, caplog: Any) -> None:
    inference = tmp_path / "inference"
    shutil.copytree(run_folder, inference / "made_val", ignore=shutil.ignore_patterns("report.*", "*.csv"))
    (inference / "broken").mkdir()
    (inference / "broken" / "records.jsonl").write_text("{")

    pages = write_reports(tmp_path, ["made_val", "broken", "absent"])

    assert pages == [inference / "made_val" / "report.html"]
    assert "report of broken couldn't be written" in caplog.text


def _kind(numbers: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(entry for entry in numbers["mistakes"] if entry["kind"] == kind)


def _registered(config: str) -> list[Category]:
    """The yard's categories; counting registers it."""
    training_segments(config, [])
    return categories_of("counted_train")
