"""Damaged evaluations and odd metrics: reports, comparisons and curves do without, or refuse in one sentence."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.faults.evaluation_folders import (
    CATEGORIES,
    assert_one_sentence,
    evaluation_record,
    run_here,
    write_evaluation,
    write_metrics,
    write_panoptic,
)

LINES = {
    "huge": ['{"iteration": 1, "total_loss": 1e308, "lr": -1e308}', '{"iteration": 2, "total_loss": 3.0}'],
    "only huge": ['{"iteration": 1, "total_loss": 1e308}'],
    "huge whole numbers": ['{"iteration": 1, "total_loss": ' + "9" * 400 + "}", '{"iteration": 2, "lr": 1}'],
    "huge iteration": ['{"iteration": 1e308, "lr": 1}', '{"iteration": 3, "lr": 1}'],
    "infinite iteration": ['{"iteration": Infinity, "lr": 1}', '{"iteration": 3, "lr": 1}'],
    "negative iteration": ['{"iteration": -7, "lr": 1}', '{"iteration": 3, "lr": 1}'],
    "not finite": ['{"iteration": 1, "total_loss": NaN, "lr": Infinity}', '{"iteration": 2, "lr": 1}'],
    "tiny": ['{"iteration": 1, "lr": 5e-324}', '{"iteration": 2, "lr": 1e-320}'],
    "equal and large": ['{"iteration": 1, "total_loss": 1e30}', '{"iteration": 2, "total_loss": 1e30}'],
    "words": ['{"iteration": 1, "total_loss": "8.1", "lr": [1]}', '{"iteration": 2, "lr": 1}'],
    "nested": ['{"iteration": 1, "a": {"b": [1]}}', "[" * 5000, '{"a":' * 5000, '{"iteration": 2, "lr": 1}'],
    "surrogates": ['{"iteration": 1, "\\ud800/bbox/AP": 2, "bbox/AP": 3}'],
    "nothing to draw": ['{"iteration": 1, "time": 2.0}'],
    "zeros": ['{"iteration": 0, "total_loss": 0}'],
}


@pytest.mark.parametrize("suffix", [".png", ".html"])
@pytest.mark.parametrize("name", LINES)
def test_odd_metrics_are_drawn_or_refused_in_one_sentence(name: str, suffix: str, tmp_path: Path) -> None:
    run = write_metrics(tmp_path / "run", LINES[name])
    output = tmp_path / f"curves{suffix}"

    done = run_here("plot", run, "--out", output, cwd=tmp_path)

    if name in ("only huge", "nothing to draw"):
        assert_one_sentence(done, "run")
        assert not output.exists()
    else:
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr
        assert output.stat().st_size > 1000


@pytest.mark.parametrize("name", ["$a$", "$\\frac{", "_hidden", "a\nb", "\udcff", "x" * 300, "<b>&"])
@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_odd_names_of_runs_are_drawn(name: str, suffix: str, tmp_path: Path) -> None:
    done = run_here("plot", f"{name}={write_metrics(tmp_path / 'run')}", "--out", f"c{suffix}", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def change(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, errors="surrogatepass")


def changed_record(**changes: Any) -> str:
    return json.dumps(evaluation_record(0, 2) | changes) + "\n"


SEGMENT = {"id": 2, "class": 0, "area": 192, "iscrowd": 0}
RECORDS = {
    "cut off": changed_record()[:200],
    "no JSON": "nonsense\n",
    "nested": "[" * 100_000,
    "a list": "[1]\n",
    "null": "null\n",
    "no true segments": changed_record(true=None),
    "a word as height": changed_record(height="40"),
    "negative width": changed_record(width=-1),
    "a class that isn't there": changed_record(true=[SEGMENT | {"class": 99}]),
    "a class that is a word": changed_record(true=[SEGMENT | {"class": "cone"}]),
    "an id twice": changed_record(true=[SEGMENT, SEGMENT]),
    "a score that is NaN": changed_record(predicted=[SEGMENT | {"score": float("nan")}]),
    "a score of 7": changed_record(predicted=[SEGMENT | {"score": 7}]),
    "overlaps of unknown segments": changed_record(overlaps=[[9999, 9999, 3]]),
    "negative overlaps": changed_record(overlaps=[[2, 2, -3]]),
    "overlaps that are too few": changed_record(overlaps=[[2, 2, 3]]),
    "overlaps that are words": changed_record(overlaps=["abc"]),
    "overlaps that are none": changed_record(overlaps=None),
    "boundaries of other segments": changed_record(boundary_overlaps=[[2, 2, 3]]),
    "a list as image id": changed_record(image_id=[1]),
    "a number as file": changed_record(file_name=7),
}


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize("name", RECORDS)
def test_damaged_records_are_refused_in_one_sentence(name: str, command: str, tmp_path: Path) -> None:
    first, second = write_evaluation(tmp_path / "a"), write_evaluation(tmp_path / "b")
    change(second, "records.jsonl", changed_record() + RECORDS[name])

    done = run_here(command, *([first] if command == "compare" else []), second, cwd=tmp_path)

    assert_one_sentence(done, "records.jsonl, line 2 isn't a record")
    assert sorted(path.name for path in second.iterdir()) == ["records.jsonl", "run.json"]


RUNS = {
    "cut off": '{"dataset": "made',
    "a list": "[]",
    "nested": "[" * 100_000,
    "no dataset": json.dumps({"categories": CATEGORIES}),
    "a number as dataset": json.dumps({"dataset": 7, "categories": CATEGORIES}),
    "no categories": json.dumps({"dataset": "x"}),
    "empty categories": json.dumps({"dataset": "x", "categories": []}),
    "a category without a color": json.dumps(
        {"dataset": "x", "categories": [{"id": 1, "name": "a", "is_thing": True}]}
    ),
    "a category named by a number": json.dumps(
        {"dataset": "x", "categories": [{"id": 1, "name": 3, "is_thing": True, "color": [1, 2, 3]}]}
    ),
    "a list as weights": json.dumps({"dataset": "x", "weights": [1], "categories": []}),
}


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize("name", RUNS)
def test_damaged_run_is_refused_in_one_sentence(name: str, command: str, tmp_path: Path) -> None:
    first, second = write_evaluation(tmp_path / "a"), write_evaluation(tmp_path / "b")
    change(second, "run.json", RUNS[name])

    done = run_here(command, *([first] if command == "compare" else []), second, cwd=tmp_path)

    assert_one_sentence(done, "run.json isn't what an evaluation writes")


@pytest.mark.parametrize("kind", ["missing", "pipe", "folder"])
@pytest.mark.parametrize("file", ["run.json", "records.jsonl"])
def test_files_of_an_evaluation_that_are_none_are_named(file: str, kind: str, tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a")
    (folder / file).unlink()
    if kind == "pipe":
        os.mkfifo(folder / file)
    elif kind == "folder":
        (folder / file).mkdir()

    done = run_here("report", folder, cwd=tmp_path)

    assert_one_sentence(done, file)


@pytest.mark.parametrize("kind", ["cut off", "no zip", "wrong sizes", "wrong ids", "colors", "pipe"])
def test_report_does_without_previews_that_cannot_be_read(kind: str, tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a")
    if kind == "no zip":
        (folder / "previews.zip").write_bytes(b"nonsense")
    elif kind == "pipe":
        os.mkfifo(folder / "previews.zip")
    else:
        mode, size, color = {"colors": ("RGB", (60, 40), 1), "wrong sizes": ("L", (9000, 1), 1)}.get(
            kind, ("L", (60, 40), 200)
        )
        Image.new(mode, size, color).save(tmp_path / "0.png")
        with zipfile.ZipFile(folder / "previews.zip", "w") as archive:
            archive.writestr("0.png", (tmp_path / "0.png").read_bytes()[: 50 if kind == "cut off" else None])

    done = run_here("report", folder, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("kind", ["pipe", "empty", "cut off", "text"])
def test_report_does_without_images_that_cannot_be_read(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_evaluation(tmp_path / "a")
    for name, mode in (("0.jpg", "JPEG"), ("0.png", "PNG")):
        path = tmp_path / name
        Image.new("RGB", (60, 40)).save(path, mode)
        if kind == "pipe":
            path.unlink()
            os.mkfifo(path)
        else:
            path.write_bytes({"empty": b"", "text": b"text", "cut off": path.read_bytes()[:40]}[kind])
    record = evaluation_record(0, 2) | {"file_name": str(tmp_path / "0.jpg"), "pan_seg_file_name": str(path)}
    change(folder, "records.jsonl", json.dumps(record) + "\n")

    done = run_here("report", folder, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "0.jpg can't be read" in caplog.text
    assert "BufferedReader" not in caplog.text


ODD_NAMES = ["\ud800 half", "$x$", "a\nb", "\x1b[31mred", "", "x" * 5000]


@pytest.mark.parametrize("number", range(len(ODD_NAMES)))
def test_odd_class_names_reach_report_pages_and_tables(number: int, tmp_path: Path) -> None:
    name = ODD_NAMES[number]
    folder = write_evaluation(tmp_path / "a")
    run = json.loads((folder / "run.json").read_text())
    run["categories"][0]["name"] = name
    change(folder, "run.json", json.dumps(run))
    other = write_evaluation(tmp_path / "b", shift=1)
    change(other, "run.json", json.dumps(run))
    gt = write_panoptic(tmp_path, "truth")
    for record in ("a", "b"):  # images and maps are there, so that names are drawn
        image = Image.new("RGB", (60, 40))
        image.save(tmp_path / "0.jpg")
        place = {"file_name": str(tmp_path / "0.jpg"), "pan_seg_file_name": str(tmp_path / "truth" / "0.png")}
        lines = [json.dumps(evaluation_record(0, 2 if record == "a" else 1) | place)]
        change(tmp_path / record, "records.jsonl", "\n".join(lines) + "\n")
        Image.new("L", (60, 40), 1).save(tmp_path / "preview.png")
        with zipfile.ZipFile(tmp_path / record / "previews.zip", "w") as archive:
            archive.write(tmp_path / "preview.png", "0.png")
    content = json.loads(gt.read_text())
    content["categories"][0]["name"] = name or " "
    change(tmp_path, "truth.json", json.dumps(content))

    reports = [
        run_here("report", folder, cwd=tmp_path),
        run_here("compare", folder, other, "--json", "c.json", cwd=tmp_path),
    ]
    if name:
        pq = ["pq", "--gt", gt, "--pred", gt, "--per-class", "--csv", "pq.csv", "--json", "pq.json"]
        done = run_here(*pq, cwd=tmp_path)
        if name.encode("utf-8", "replace").decode() == name:
            reports.append(done)
        else:  # half a letter, which check calls an error, too
            assert done.returncode == 2 and "category-name" in done.stderr

    for done in reports:
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert (folder / "report.html").read_text() and (folder / "per_class.csv").read_text()
    assert json.loads((folder / "report.json").read_text())["classes"][0]["name"] == name
