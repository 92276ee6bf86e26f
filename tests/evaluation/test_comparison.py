"""detr-d2 compare: two evaluations of the same images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from detr_d2.cli import main
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.evaluation import DetrPanopticEvaluator
from tests.made_evaluations import predict, run, write_dataset

from detectron2.data import DatasetCatalog


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Evaluations of six images: exact, one pixel off, five pixels off; and the dataset's name."""
    folder = tmp_path_factory.mktemp("runs")
    name = write_dataset(folder / "data", images=6)
    found = {}
    for title, shift in (("exact", 0), ("near", 1), ("far", 5)):
        found[title] = folder / title / "inference" / name
        run(DetrPanopticEvaluator(name, str(found[title])), name, shift)
    return found


def compared(first: Path, second: Path, folder: Path, *words: str) -> dict:
    command = [
        "compare",
        str(first),
        str(second),
        "--page",
        str(folder / "page.html"),
        "--json",
        str(folder / "c.json"),
    ]
    assert main([*command, *words]) == 0
    return json.loads((folder / "c.json").read_text())


def test_difference_is_that_of_the_two_numbers(runs: dict[str, Path], tmp_path: Path) -> None:
    content = compared(runs["far"], runs["near"], tmp_path)

    for group in ("All", "Things", "Stuff"):
        written = [json.loads((runs[n] / "panoptic_quality.json").read_text())[group]["PQ"] for n in ("far", "near")]
        row = content["groups"][group]
        assert [row["before"], row["after"]] == written
        assert row["difference"] == pytest.approx(written[1] - written[0]) and row["verdict"] == "better"
        assert row["interval"][0] <= row["difference"] <= row["interval"][1]


def test_swapped_runs_swap_the_sign(runs: dict[str, Path], tmp_path: Path) -> None:
    one, other = (compared(*pair, tmp_path) for pair in ((runs["far"], runs["near"]), (runs["near"], runs["far"])))

    low, high = one["groups"]["All"]["interval"]
    assert other["groups"]["All"]["interval"] == pytest.approx([-high, -low])
    assert other["groups"]["All"]["verdict"] == "worse"
    assert [p["image_id"] for p in one["gained_most"]] == [p["image_id"] for p in other["lost_most"]]


def test_run_equals_itself(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = compared(runs["near"], runs["near"], tmp_path)

    assert all(row["interval"] == [0, 0] and row["verdict"] == "the same" for row in content["groups"].values())
    assert content["lost_most"] == content["gained_most"] == []
    assert "No class has changed" in capsys.readouterr().out


def test_page_shows_both_predictions_of_changed_images(runs: dict[str, Path], tmp_path: Path) -> None:
    content = compared(runs["exact"].parents[1], runs["far"].parents[1], tmp_path, "--images", "2")

    page = (tmp_path / "page.html").read_text()
    assert content["names"] == ["exact", "far"] and len(content["lost_most"]) == 2
    for view in ("photo", "ground truth", "exact", "far"):
        assert page.count(f'data-name="{view}"') == 2
    assert "Classes that changed" in page and "http" not in page.replace("http-equiv", "")


def test_images_that_one_run_lacks_are_refused_or_left_out(runs: dict[str, Path], tmp_path: Path) -> None:
    part = shutil.copytree(runs["near"], tmp_path / "part")
    lines = (part / "records.jsonl").read_text().splitlines(keepends=True)
    (part / "records.jsonl").write_text("".join(lines[:4]))

    with pytest.raises(DatasetError, match=r"2 images are only in .*--common"):
        main(["compare", str(runs["exact"]), str(part)])

    content = compared(runs["exact"], part, tmp_path, "--common")
    assert content["images"] == 4 and content["left_out"] == 2
    assert {row["verdict"] for row in content["groups"].values()} == {"too few images"}


def test_other_ground_truth_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    other = shutil.copytree(runs["near"], tmp_path / "other")
    lines = [json.loads(line) for line in (other / "records.jsonl").read_text().splitlines()]
    lines[0]["true"][0]["iscrowd"] = 1
    (other / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    with pytest.raises(DatasetError, match="1 image has another ground truth"):
        main(["compare", str(runs["exact"]), str(other)])


def test_other_classes_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    other = shutil.copytree(runs["near"], tmp_path / "other")
    facts = json.loads((other / "run.json").read_text())
    facts["categories"][0]["name"] = "hydrant"
    (other / "run.json").write_text(json.dumps(facts))

    with pytest.raises(DatasetError, match="differing: cone, hydrant"):
        main(["compare", str(runs["exact"]), str(other)])


def test_folder_without_an_evaluation_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="--eval-only"):
        main(["compare", str(runs["exact"]), str(tmp_path)])


def test_page_of_void_predictions_is_written(runs: dict[str, Path], tmp_path: Path) -> None:
    name = runs["exact"].name
    evaluator = DetrPanopticEvaluator(name, str(tmp_path / "empty"))
    for record in DatasetCatalog.get(name):
        ids, _ = predict(record)["panoptic_seg"]
        evaluator.process([record], [{"panoptic_seg": (ids * 0, [])}])
    evaluator.evaluate()

    content = compared(runs["exact"], tmp_path / "empty", tmp_path)

    assert content["groups"]["All"]["after"] == 0 and len(content["lost_most"]) == 6
