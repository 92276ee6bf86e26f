"""The report's files: whole, alone, true to the records, and clear about what is wrong."""

from __future__ import annotations

import csv
import json
import re
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import made_images, write_run

from detr_d2.cli import main
from detr_d2.data.categories import Category
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.records import evaluation_folders
from detr_d2.evaluation.report import images as report_images
from detr_d2.evaluation.report import write_run_report
from detr_d2.evaluation.report.images import ImageViews
from detr_d2.evaluation.report.mistakes import KINDS
from detr_d2.evaluation.results import quality_as_json


def test_report_has_the_quality_of_the_maps_to_the_last_bit(
    tmp_path: Path, categories: list[Category], content: dict[str, Any]
) -> None:
    quality = PanopticQuality(len(categories))
    for image in made_images(tmp_path, 12, categories[:-1]):
        true, predicted = ([s | {"category_id": s["class"]} for s in part] for part in (image.true, image.predicted))
        quality.update(image.true_map, true, image.predicted_map, predicted)

    expected = quality_as_json(quality, categories)

    for name in ("All", "Things", "Stuff"):
        assert {key: content[name][key] for key in expected[name]} == expected[name]
    for entry, wanted in zip(content["classes"], expected["classes"]):
        assert {key: entry[key] for key in wanted} == wanted


def test_every_kind_of_mistake_is_named_with_what_it_costs(content: dict[str, Any]) -> None:
    kinds = {entry["kind"]: entry for entry in content["mistakes"]}

    assert set(kinds) == set(KINDS)
    for kind in ("wrong_class", "split", "poorly_cut", "duplicate", "missed", "loose_borders"):
        assert kinds[kind]["count"] > 0 and kinds[kind]["gives_back"]["All"] > 0


def test_absent_class_is_absent_and_not_zero(content: dict[str, Any], page: Path) -> None:
    absent = content["classes"][-1]

    assert absent["PQ"] is None and absent["true_segments"] == 0
    assert re.search(r'<tr class="absent"><td>.*?never seen</td>.*?>absent</td>', page.read_text(), re.S)
    assert any("no true segment" in step["title"] and "never seen" in step["why"] for step in content["next_steps"])


def test_images_are_ranked_and_none_is_both_worst_and_best(content: dict[str, Any]) -> None:
    worst, best = (content["images"][key] for key in ("worst", "best"))

    assert [p["pq"] for p in worst] == sorted(p["pq"] for p in worst)
    assert [p["pq"] for p in best] == sorted((p["pq"] for p in best), reverse=True)
    assert worst[-1]["pq"] <= best[-1]["pq"]
    assert not {p["image_id"] for p in worst} & {p["image_id"] for p in best}


def test_page_stands_alone_and_escapes_names(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert not re.search(r'(src|href)="(?!data:|#)', text) and "url(" not in text and "@import" not in text
    assert "<b>brick" not in text and "&lt;b&gt;brick" in text and "photo &lt;" in text


def test_page_shows_config_versions_commit(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    for part in ("MODEL:", "versions: torch", "commit", "abc", "model_final.pth"):
        assert part in text


def test_table_of_classes_has_a_line_each_and_empty_cells_for_absent_ones(page: Path) -> None:
    with page.with_name("per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    assert [row["name"] for row in rows][:2] == ["pipe", "<b>brick</b>"] and len(rows) == 6
    assert rows[-1]["PQ"] == "" and float(rows[0]["PQ_low"]) <= float(rows[0]["PQ"]) <= float(rows[0]["PQ_high"])
    assert float(rows[0]["gives_back_missed"]) >= 0


def test_same_records_give_the_same_files(run_folder: Path, page: Path, tmp_path: Path) -> None:
    again = write_run_report(run_folder, tmp_path, images=4, resamples=100)

    assert again.read_bytes() == page.read_bytes()
    assert again.with_name("report.json").read_bytes() == page.with_name("report.json").read_bytes()


def test_pixels_of_one_image_at_a_time_are_held(
    run_folder: Path, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[ImageViews]] = []
    held: list[int] = []

    def make(*arguments: Any) -> ImageViews:
        held.append(sum(one() is not None for one in made))
        views = ImageViews(*arguments)
        made.append(weakref.ref(views))
        return views

    monkeypatch.setattr(report_images, "ImageViews", make)
    again = write_run_report(run_folder, tmp_path, images=4, resamples=100)

    assert again.read_bytes() == page.read_bytes()
    assert len(held) > 5 and max(held) <= 1


def test_report_does_without_photos_ground_truth_and_previews(run_folder: Path, tmp_path: Path, caplog: Any) -> None:
    for name in ("records.jsonl", "run.json"):
        shutil.copy(run_folder / name, tmp_path / name)
    records = (tmp_path / "records.jsonl").read_text().replace("photo <", "gone ").replace("truth ", "gone ")
    (tmp_path / "records.jsonl").write_text(records)

    page = write_run_report(tmp_path, images=1, resamples=0)

    assert "can't be read" in caplog.text or "isn't there" in caplog.text
    assert 'data-name="photo"' in page.read_text() and 'data-name="ground truth"' not in page.read_text()


def test_evaluation_without_images_has_a_report(tmp_path: Path, categories: list[Category]) -> None:
    page = write_run_report(write_run(tmp_path, [], categories))

    content = json.loads(page.with_name("report.json").read_text())
    assert content["All"]["PQ"] is None and content["ground_truth"]["images"] == 0


def test_predictions_that_are_all_empty_have_a_report(tmp_path: Path, categories: list[Category]) -> None:
    images = list(made_images(tmp_path / "data", 3, categories))
    for image in images:
        image.predicted_map, image.predicted = np.zeros_like(image.predicted_map), []

    page = write_run_report(write_run(tmp_path, images, categories), images=2)

    content = json.loads(page.with_name("report.json").read_text())
    assert content["All"]["PQ"] == 0 and "3 images have no predicted segment" in page.read_text()


def test_perfect_predictions_ask_for_nothing_but_more_images(tmp_path: Path, categories: list[Category]) -> None:
    images = list(made_images(tmp_path / "data", 20, categories))
    for image in images:
        image.predicted_map = image.true_map
        image.predicted = [{"id": s["id"], "class": s["class"], "score": 0.99} for s in image.true]

    page = write_run_report(write_run(tmp_path, images, categories), images=1)

    content = json.loads(page.with_name("report.json").read_text())
    assert content["All"]["PQ"] == 100 and content["reliability"]["All"]["ece"] == pytest.approx(0.01)
    assert all(entry["gives_back"]["All"] == 0 for entry in content["mistakes"])
    assert all(step["gain"] is None for step in content["next_steps"])


def test_command_finds_the_datasets_of_a_run(run_folder: Path, tmp_path: Path, capsys: Any) -> None:
    run = run_folder.parent.parent

    code = main(["report", str(run), "--output", str(tmp_path), "--images", "0", "--resamples", "10"])

    assert code == 0 and capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert "No images were asked for" in (tmp_path / "report.html").read_text()
    assert evaluation_folders(run) == [run_folder] == evaluation_folders(run_folder)


def test_folder_without_an_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no evaluation is in"):
        evaluation_folders(tmp_path)


@pytest.mark.parametrize("damage", ["run", "records"])
def test_damaged_files_are_named(run_folder: Path, tmp_path: Path, damage: str) -> None:
    for name in ("records.jsonl", "run.json"):
        shutil.copy(run_folder / name, tmp_path / name)
    broken = tmp_path / {"run": "run.json", "records": "records.jsonl"}[damage]
    broken.write_text(broken.read_text()[:-20])

    with pytest.raises(DatasetError, match=broken.name):
        write_run_report(tmp_path)
