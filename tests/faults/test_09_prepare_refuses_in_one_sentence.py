"""What a user can correct is said by ``prepare`` in a sentence without a traceback, and a refusal leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.preparing import (
    annotation,
    box_ring,
    check,
    coco,
    command,
    environment,
    leftovers,
    prepare,
    prepare_until_disk_is_full,
    read_json,
    run_without_privileges,
    write_export,
)
from tests.prepare.made_exports import mask_files, write_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits, links and names as Linux has them")


def is_one_sentence(message: str) -> bool:
    return message.startswith("error: ") and message.count("\n") == 1


# Folders that can't be written.


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "site"


def too_long(folder: Path) -> Path:
    return folder / "new" / ("n" * 300)


def a_file(folder: Path) -> Path:
    (folder / "site").write_text("mine")
    return folder / "site"


def a_loop(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop" / "site"


def read_only(folder: Path) -> Path:
    (folder / "locked").mkdir(mode=0o555)
    return folder / "locked" / "site"


@pytest.mark.parametrize("place", [below_a_file, too_long, a_file, a_loop, read_only])
def test_a_folder_that_cannot_be_made_is_named_before_anything_is_read(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    export = write_export(tmp_path / "exports")
    (export / "coco.json").write_text("{")  # would be named if it were read
    out = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))

    ended = run_without_privileges("prepare", "--cvat", export, "--name", "site", "--out", out)

    assert ended.returncode == 2 and is_one_sentence(ended.stderr), ended.stderr
    assert str(out.parent) in ended.stderr and "coco.json" not in ended.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("limit", [500, 4_000, 25_000])
def test_a_full_disk_is_said_whatever_is_being_written(tmp_path: Path, limit: int) -> None:
    """An image, the notes on what is finished, the report."""
    export = write_export(tmp_path / "exports", 12)
    words = ("--cvat", export, "--out", tmp_path / "made")

    ended = prepare_until_disk_is_full(*words, most_bytes=limit)

    assert ended.returncode == 2 and ended.stderr.splitlines()[-1].startswith("error: "), ended.stderr
    assert "File too large" in ended.stderr and "goes on where it stopped" in ended.stderr
    assert "Traceback" not in ended.stderr and not (tmp_path / "made").exists()
    assert prepare(*words) == 0


def test_a_file_in_the_place_of_the_cache_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cache").write_text("mine")
    words = ("--stuff", "model", "json:loads", "--cache", tmp_path / "cache", "--out", tmp_path / "made")

    assert prepare("--cvat", write_export(tmp_path / "exports"), *words) == 2

    message = capsys.readouterr().err
    assert is_one_sentence(message) and "--cache" in message and leftovers(tmp_path) == []


@pytest.mark.parametrize("option", ["--cvat", "--coco"])
@pytest.mark.parametrize("place", [below_a_file, too_long, a_loop])
def test_exports_that_cannot_be_there_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, place: Callable[[Path], Path]
) -> None:
    path = place(tmp_path)

    assert prepare(option, path, "--out", tmp_path / "made") == 2

    message = capsys.readouterr().err
    assert is_one_sentence(message) and str(path)[:200] in message


# Names that aren't text.


def image_that_is_not_utf_8(folder: Path) -> str:
    colors = np.full((30, 40, 3), 9, np.uint8)
    export = write_folder(folder / "masks", mask_files(colors, colors, "drum:9,9,9::"))
    for path in ("JPEGImages/1.jpg", "SegmentationClass/1.png", "SegmentationObject/1.png"):
        (export / path).rename(export / path.replace("1.", "caf\udce9."))
    return "caf\\udce9.jpg"


def folder_that_is_not_utf_8(folder: Path) -> str:
    write_export(folder / "caf\udce9")
    return "caf\\udce9"


def masks_in_a_folder_that_is_not_utf_8(folder: Path) -> str:
    colors = np.full((30, 40, 3), 9, np.uint8)
    write_folder(folder / "caf\udce9", mask_files(colors, colors, "drum:9,9,9::"))
    return "caf\\udce9"


NAMES = [image_that_is_not_utf_8, folder_that_is_not_utf_8, masks_in_a_folder_that_is_not_utf_8]


@pytest.mark.parametrize("spoil", NAMES)
def test_a_name_that_is_no_text_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], str]
) -> None:
    name = spoil(tmp_path / "exports")

    assert prepare("--cvat", tmp_path / "exports", "--out", tmp_path / "made") == 2

    message = capsys.readouterr().err
    assert name in message and is_one_sentence(message)
    assert leftovers(tmp_path) == [] and not (tmp_path / "made").exists()


@pytest.mark.parametrize("spoil", NAMES)
def test_a_name_that_is_no_text_is_an_error_for_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], str]
) -> None:
    name = spoil(tmp_path / "exports")

    assert check(tmp_path / "exports", "--json", tmp_path / "faults.json") == 1

    capsys.readouterr()
    errors = [one for one in read_json(tmp_path / "faults.json")["faults"] if one["severity"] == "error"]
    assert [
        one for one in errors if name in f"{one['file']} {one['message']}".encode("ascii", "backslashreplace").decode()
    ]


def test_a_class_whose_name_is_no_text_gets_one_in_the_repaired_copy(tmp_path: Path) -> None:
    write_export(tmp_path / "exports" / "brick", categories=[{"id": 1, "name": "bri\ud800ck"}])

    assert check(tmp_path / "exports", "--fix", tmp_path / "fixed") == 0

    assert check(tmp_path / "fixed") == 0
    assert prepare("--cvat", tmp_path / "fixed", "--out", tmp_path / "made") == 0


@pytest.mark.parametrize(
    ("option", "content"),
    [
        ("--classes", '{"brick": "bri\\ud800ck"}'),
        ("--categories", '[{"id": 1, "name": "bri\\ud800ck"}, {"id": 2, "name": "brick"}]'),
    ],
)
def test_a_class_that_the_user_names_so_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, content: str
) -> None:
    (tmp_path / "list.json").write_text(content)
    words = (option, tmp_path / "list.json", "--out", tmp_path / "made")

    assert prepare("--cvat", write_export(tmp_path / "exports"), *words) == 2

    message = capsys.readouterr().err
    assert "bri\\ud800ck" in message and is_one_sentence(message) and leftovers(tmp_path) == []


def test_a_path_above_the_exports_need_not_be_text(tmp_path: Path) -> None:
    above = tmp_path / "caf\udce9"

    code = prepare("--cvat", write_export(above / "exports"), "--name", "site", "--out", above / "s\udce9te")

    assert code == 0
    report = read_json(above / "s\udce9te" / "report.json")
    assert "caf\udce9" in report["exports"][0]["file"]
    assert "caf\\udce9" in (above / "s\udce9te" / "report.html").read_text(encoding="utf-8")


# Functions for stuff.


def write_function(folder: Path, body: str, top: str = "") -> None:
    """The module ``own_stuff`` with a function ``label`` of such a body."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    (folder / "own_stuff.py").write_text(f"import numpy as np\n{top}\ndef label(pixels):\n{lines}\n")


@pytest.mark.parametrize(
    ("body", "top", "expected"),
    [
        ("raise ValueError('no such\\nlayer')", "", ["ValueError: no such layer", "site/0.jpg", "line 4"]),
        ("return {}['weights']", "", ["KeyError: 'weights'", "site/0.jpg"]),
        ("import not_installed", "", ["ModuleNotFoundError", "not_installed", "site/0.jpg"]),
        ("raise SystemExit(3)", "", ["SystemExit: 3", "site/0.jpg"]),
        ("assert False", "", ["AssertionError", "site/0.jpg"]),
        ("return np.ones(pixels.shape[:2], int), [{'id': 1, 'name': 'wall', 'score': 'high'}]", "", ["site/0.jpg"]),
        ("return np.ones(pixels.shape[:2], int), None", "", ["site/0.jpg"]),
        ("return np.ones(3), []", "", ["ids of shape", "site/0.jpg"]),
        ("pass", "raise RuntimeError('no GPU')", ["RuntimeError: no GPU", "importing own_stuff", "line 2"]),
        ("pass", "def broken(:", ["SyntaxError", "importing own_stuff"]),
    ],
)
def test_an_error_of_a_users_function_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
    top: str,
    expected: list[str],
) -> None:
    write_function(tmp_path, body, top)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_stuff", raising=False)
    words = ("--stuff", "model", "own_stuff:label", "--out", tmp_path / "made")

    code = prepare("--cvat", write_export(tmp_path / "site"), *words)

    message = capsys.readouterr().err
    sys.modules.pop("own_stuff", None)
    assert code == 2 and is_one_sentence(message), message
    assert all(part in message for part in [*expected, "own_stuff:label"]), message
    assert leftovers(tmp_path) == [] and not (tmp_path / "made").exists()


# Interruptions.


def interrupted(*words: str | Path, ready: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
    """A run whose processes all get Ctrl-C when it is far enough."""
    process = subprocess.Popen(
        command("prepare", *words),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not ready():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def large_export(tmp_path: Path) -> Path:
    """An export of so many large images that preparing them takes seconds."""
    export, size = tmp_path / "exports", (1600, 1200)
    (export / "images").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(export / "images" / "0.jpg")
    names = [f"{number}.jpg" for number in range(100)]
    for name in names[1:]:
        os.link(export / "images" / "0.jpg", export / "images" / name)
    content = coco(names, [annotation(number, number, [box_ring(4, 4, 900, 800)]) for number in range(1, 101)])
    for image in content["images"]:
        image.update(width=size[0], height=size[1])
    (export / "coco.json").write_text(json.dumps(content))
    return export


def finished(partial: Path) -> int:
    """How many images an unfinished run has noted."""
    journal = partial / "journal.jsonl"
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0


@pytest.mark.parametrize("workers", [1, 3])
def test_ctrl_c_says_how_to_go_on_and_nothing_else(
    tmp_path: Path, large_export: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--cvat", large_export, "--link", "--out", tmp_path / "made")
    partial = tmp_path / ".made.partial"

    ended = interrupted(*words, "--workers", str(workers), ready=lambda: finished(partial) > 2)

    assert ended.returncode == 130, ended.stderr
    assert ended.stderr.startswith("stopped: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert "same command again goes on" in ended.stderr and str(partial) in ended.stderr
    done = finished(partial)
    assert prepare(*words, workers=2) == 0
    assert f"{done} of them from an interrupted run" in capsys.readouterr().out
    assert leftovers(tmp_path) == []


def test_processes_of_a_run_that_was_killed_end_with_it(tmp_path: Path, large_export: Path) -> None:
    words = ("--cvat", large_export, "--link", "--out", tmp_path / "made")
    process = subprocess.Popen(command("prepare", *words, "--workers", "3"), env=environment(), start_new_session=True)
    while process.poll() is None and finished(tmp_path / ".made.partial") < 3:
        time.sleep(0.005)

    process.kill()
    process.wait()

    assert prepare(*words) == 0  # it would be refused while one of them holds the folder


def test_names_of_coco_that_are_no_text_are_fixed_as_check_fixes_them(tmp_path: Path) -> None:
    export = write_export(tmp_path / "exports" / "brick", categories=[{"id": 1, "name": "bri\ud800ck"}])
    (export / "images" / "0.jpg").rename(export / "images" / "caf\udce9.jpg")
    labels = [annotation(number, number, [box_ring(4, 4, 20, 24)]) for number in (1, 2, 3)]
    content = coco(["caf\udce9.jpg", "1.jpg", "2.jpg"], labels)
    content["categories"] = [{"id": 1, "name": "bri\ud800ck"}]
    (export / "coco.json").write_text(json.dumps(content))

    assert prepare("--cvat", tmp_path / "exports", "--out", tmp_path / "made") == 0

    report = json.loads((tmp_path / "made" / "report.json").read_text())
    assert [one["name"] for one in report["classes"]] == ["class_1"]
    assert {code: note["count"] for code, note in report["notes"].items()} == {"category-name": 1, "path-escape": 1}
    assert report["images"]["train"] + report["images"]["val"] == 2
