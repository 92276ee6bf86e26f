"""What a user gives to evaluation, reports and plots may be damaged, disks may be full: one sentence, no traceback."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_d2.cli import main
from detr_d2.data import read_panoptic_png
from detr_d2.evaluation import file_quality
from tests.faults.evaluation_folders import (
    CATEGORIES,
    PROJECT,
    assert_one_sentence,
    evaluation_record,
    run_command,
    run_here,
    write_evaluation,
    write_metrics,
    write_panoptic,
)


def words_for(command: str, folder: Path, target: Path) -> list[str | os.PathLike[str]]:
    """A command line whose output is ``target``."""
    if command.startswith("pq"):
        gt = write_panoptic(folder, "truth")
        return ["pq", "--gt", gt, "--pred", gt, f"--{command.split()[1]}", target]
    if command.startswith("compare"):
        first, second = write_evaluation(folder / "a"), write_evaluation(folder / "b", shift=1)
        return ["compare", first, second, f"--{command.split()[1]}", target, "--images", "1"]
    if command == "report":
        return ["report", write_evaluation(folder / "a"), "--output", target]
    return ["plot", write_metrics(folder / "run"), "--out", target.with_suffix("." + command.split()[1])]


COMMANDS = ["pq json", "pq csv", "compare json", "compare page", "report", "plot png", "plot html"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("place", "reason"),
    [("file/x", "file"), ("n" * 300, "File name too long"), ("/proc/detr_d2/x", "No such file or directory")],
    ids=["in a file", "too long", "unwritable"],
)
def test_output_that_the_system_refuses_is_one_sentence(command: str, place: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run_here(*words_for(command, tmp_path, tmp_path / place), cwd=tmp_path)

    assert_one_sentence(done, reason)


@pytest.mark.parametrize("command", COMMANDS)
def test_full_disk_is_one_sentence_and_leaves_nothing(command: str, tmp_path: Path) -> None:
    words = words_for(command, tmp_path, tmp_path / "out")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}

    # The kernel refuses to write more, as on a full disk, of which a test has none.
    done = run_command(*words, cwd=tmp_path, shell_prefix="ulimit -f 0", environment={"MPLCONFIGDIR": str(tmp_path)})

    assert_one_sentence(done, "File too large")
    left = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert [path for path in left if "font" not in path.name] == []


@pytest.mark.parametrize("words", [["pq", "--gt", "truth.json", "--pred", "truth.json"], ["--help"]])
def test_standard_output_on_a_full_disk_is_one_sentence(words: list[str], tmp_path: Path) -> None:
    write_panoptic(tmp_path, "truth")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": ""}

    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "detr_d2", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == 2
    assert done.stderr.startswith("error: No space left on device") and done.stderr.count("\n") == 1


EVALUATION = """
import resource, sys
from pathlib import Path
import detr_d2
from detr_d2.errors import run_command
from detr_d2.evaluation import build_evaluator
from tests.made_evaluations import config, run, write_dataset
folder, limit, saved = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "png"
name = write_dataset(folder / "data", images=5)
cfg = config(instance_on=False)
cfg.TEST.PANOPTIC_PNG = saved
def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    run(build_evaluator(cfg, name, str(folder / "out")), name)
sys.exit(run_command(main))
"""


STOP = """
def stop(evaluator):
    import os, signal
    from detectron2.data import DatasetCatalog
    from tests.made_evaluations import predict
    evaluator.reset()
    record = DatasetCatalog.get(name)[0]
    evaluator.process([record], [predict(record)])
    assert list((folder / "out").iterdir())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("limit", [0, 100, 1500, 4000])
@pytest.mark.parametrize("kept", ["png", "records"])
def test_evaluation_on_a_full_disk_is_one_sentence_and_leaves_nothing_half(
    kept: str, limit: int, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", EVALUATION, str(tmp_path), str(limit), kept]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert_one_sentence(done, "File too large")
    left = [path.name for path in (tmp_path / "out").rglob("*")] if (tmp_path / "out").exists() else []
    assert [name for name in left if name.startswith(".") or "partial" in name] == []


def test_interrupted_evaluation_leaves_no_half_of_its_predictions(tmp_path: Path) -> None:
    stopping = EVALUATION.replace(
        "    resource.setrlimit",
        "    evaluator = build_evaluator(cfg, name, str(folder / 'out'))\n    stop(evaluator)\n    resource.setrlimit",
    )
    stopping = stopping.replace("def main():", STOP + "def main():")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", stopping, str(tmp_path), "0", "png"]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("stopped:") and done.stderr.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_temporary_folder_that_is_full_is_named_with_the_remedy(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-c", EVALUATION, str(tmp_path), "0", "records"]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert_one_sentence(done, str(tmp_path / "tmp"), "TMPDIR")


SAVING = """
import resource, sys
import torch
from detr_d2.cli import main
from detr_d2.errors import run_command
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
sys.exit(run_command(lambda: main(sys.argv[1:])))
"""


def test_checkpoint_on_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    import torch

    weights = {f"layer1.0.conv{i}.weight": torch.randn(64, 64) for i in (1, 2, 3)}
    stem = {"conv1.weight": torch.randn(64, 3, 7, 7), "bn1.weight": torch.randn(64)}
    torch.save(stem | weights, tmp_path / "resnet.pth")
    words = ["convert-weights", str(tmp_path / "resnet.pth"), str(tmp_path / "new.pth")]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}

    command = [sys.executable, "-c", SAVING, *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert_one_sentence(done, "new.pth: File too large")
    assert [path.name for path in tmp_path.iterdir()] == ["resnet.pth"]


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


@pytest.mark.parametrize("seed", ["-1", "1.5", "9" * 30])
def test_seed_that_is_none_is_refused(seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "a", "b", "--seed", seed])

    assert stopped.value.code == 2
    assert "isn't a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_interrupted_pq_ends_at_once_and_writes_nothing(
    workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gt = write_panoptic(tmp_path, "truth", images=1)
    content = json.loads(gt.read_text())
    png = tmp_path / "truth" / content["annotations"][0]["file_name"]
    for number in range(1, 20_000):
        os.link(png, png.with_name(f"{number}.png"))
    for key, name in (("images", "id"), ("annotations", "image_id")):
        content[key] = [content[key][0] | {name: n, "file_name": f"{n}.png"} for n in range(20_000)]
    gt.write_text(json.dumps(content))
    times = itertools.count(1)
    seen = []

    def read_and_interrupt(path: str) -> np.ndarray:
        seen.append(path)
        if next(times) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return read_panoptic_png(str(png))

    monkeypatch.setattr(file_quality, "read_panoptic_png", read_and_interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    words = ["pq", "--gt", gt, "--pred", gt, "--workers", workers, "--json", "pq.json"]

    try:
        done = run_here(*words, cwd=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)

    assert done.returncode == 130
    assert done.stderr.startswith("stopped:") and done.stderr.count("\n") == 1
    assert len(seen) < 2_000
    assert not (tmp_path / "pq.json").exists()
