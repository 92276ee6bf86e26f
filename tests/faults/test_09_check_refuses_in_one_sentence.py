"""What the system refuses is a finding, or ends ``detr-d2 check`` with one sentence and nothing half-written."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.label_files import (
    Done,
    detr_d2,
    detr_d2_apart,
    environment,
    everything_in,
    is_one_sentence,
    photo,
    write_dataset,
    write_json,
)

LONG = "x" * 300


def without_rights(*words: Any) -> Done:
    """``detr-d2`` in a process that permissions stop, even if this one is root's."""
    if not hasattr(ctypes.CDLL(None), "prctl"):
        pytest.skip("permissions are tried on Linux only")
    return detr_d2_apart(*words, preexec_fn=_give_up_rights)


def _give_up_rights() -> None:
    drop_from_bounding_set, rights = 24, (1, 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH; see capabilities(7)
    for right in rights:
        ctypes.CDLL(None).prctl(drop_from_bounding_set, right, 0, 0, 0)


def faults(report: Path) -> list[dict[str, Any]]:
    return json.loads(report.read_text())["faults"]


@pytest.mark.parametrize("place", ["images/a.jpg", "panoptic/a.png", "images", "panoptic", "labels.json"])
def test_files_and_folders_without_permission_are_findings(place: str, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.jpg": photo()}, panoptic=True)
    (tmp_path / "made" / place).chmod(0)

    done = without_rights("check", labels, "--json", tmp_path / "faults.json")

    assert done.returncode == 1, done.stderr
    found = faults(tmp_path / "faults.json")
    assert any("Permission denied" in fault["message"] for fault in found), found
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("mode", "words"), [(0, []), (0o111, []), (0o444, ["--quick"]), (0, ["--fix", "FIXED"])])
def test_a_folder_without_permission_is_said_in_one_sentence(words: list[str], mode: int, tmp_path: Path) -> None:
    write_dataset(tmp_path / "made", {"a.jpg": photo()})
    (tmp_path / "made").chmod(mode)

    done = without_rights(
        "check", tmp_path / "made", *[str(tmp_path / "fixed") if word == "FIXED" else word for word in words]
    )

    assert is_one_sentence(done) or (done.returncode == 1 and "Permission denied" in done.stdout), done
    assert not (tmp_path / "fixed").exists()


@pytest.mark.parametrize("option", ["--json", "--fix"])
def test_outputs_where_nothing_may_be_written_are_refused_at_once(option: str, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.jpg": photo(), "b.jpg": photo(1)})
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o555)

    done = without_rights("check", labels, option, tmp_path / "closed" / "out")
    deeper = without_rights("check", labels, option, tmp_path / "closed" / "new" / "out")

    assert is_one_sentence(done) and is_one_sentence(deeper), (done, deeper)
    assert "out" in done.stderr and not list((tmp_path / "closed").iterdir())


def _blocked(kind: str, folder: Path) -> Path:
    """A path that no output can have."""
    if kind == "long name":
        return folder / LONG
    if kind == "long name of a folder":
        return folder / "new" / LONG / "out"
    (folder / "there").mkdir()
    (folder / "there" / "kept.txt").write_text("kept")
    if kind == "below a file":
        return folder / "there" / "kept.txt" / "out"
    if kind == "pipe":
        os.mkfifo(folder / "there" / "out")
        return folder / "there" / "out"
    return folder / "there" if kind == "folder" else folder / "there" / "kept.txt"


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        *(("--json", kind) for kind in ("long name", "long name of a folder", "below a file", "pipe", "folder")),
        *(("--fix", kind) for kind in ("long name", "long name of a folder", "below a file", "pipe", "folder", "file")),
    ],
)
def test_outputs_that_cannot_be_are_refused_and_nothing_changes(option: str, kind: str, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.jpg": photo()})
    target = _blocked(kind, tmp_path)
    before = sorted(tmp_path.rglob("*")), everything_in(tmp_path)

    done = detr_d2("check", labels, option, target)

    assert is_one_sentence(done), done
    assert (sorted(tmp_path.rglob("*")), everything_in(tmp_path)) == before


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("option", ["--json", "--fix"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(option: str, workers: str, tmp_path: Path) -> None:
    images = {f"{number}.png": photo(number) for number in range(80)}  # fewer wouldn't need processes
    labels = write_dataset(tmp_path / "made", images)
    content = json.loads(labels.read_text())
    for entry in content["images"]:
        entry["width"] = "40"  # so many faults that the report gets long
    write_json(labels, content)
    before = sorted(tmp_path.rglob("*"))

    def fill_up() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    words = ["check", labels, option, tmp_path / "out", "--workers", workers]
    done = detr_d2_apart(*words, preexec_fn=fill_up)

    assert is_one_sentence(done), done
    assert sorted(tmp_path.rglob("*")) == before


def interrupted(words: list[Any], ready: Any, to_all: bool) -> Done:
    """``detr-d2``, which gets a Ctrl-C once ``ready()`` says so: all its processes, as from a terminal, or just one."""
    command = [sys.executable, "-m", "detr_d2", *map(str, words)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment(), stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return Done(process.returncode, out, err)


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("to_all", [True, False])
def test_an_interrupted_copy_leaves_nothing_and_says_so(workers: str, to_all: bool, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"0.png": photo(0, (300, 200))})
    content = json.loads(labels.read_text())
    for number in range(1, 400):
        os.link(tmp_path / "made" / "images" / "0.png", tmp_path / "made" / "images" / f"{number}.png")
        content["images"].append({**content["images"][0], "id": number + 1, "file_name": f"{number}.png"})
        content["annotations"].append({**content["annotations"][0], "id": number + 1, "image_id": number + 1})
    write_json(labels, content)
    before = sorted(tmp_path.rglob("*"))

    def has_begun() -> bool:
        return len(list(tmp_path.glob(".out.*/images/*"))) > 20

    done = interrupted(["check", labels, "--fix", tmp_path / "out", "--workers", workers], has_begun, to_all)

    assert done.returncode == 130, done
    assert done.stderr.count("stopped: ") == 1 and "nothing half-written is left" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_report_leaves_nothing(tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {f"{number}.png": photo(number, (400, 300)) for number in range(100)})
    before = sorted(tmp_path.rglob("*"))

    def has_begun() -> bool:
        return bool(list(tmp_path.glob(".faults.json.*")))

    done = interrupted(["check", labels, "--json", tmp_path / "faults.json", "--workers", "2"], has_begun, True)

    assert done.returncode == 130 and "Traceback" not in done.stderr, done
    assert sorted(tmp_path.rglob("*")) == before


NAMES = [
    LONG,
    "/".join(["x" * 200] * 30),
    "a\0b.png",
    "\n.png",
    "a/../../c.png",
    " ",
    ".",
    "..",
    "images",
    "a.png/",
    "~",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:12])
@pytest.mark.parametrize("panoptic", [False, True])
def test_names_that_no_file_can_have_are_findings_and_left_out(name: str, panoptic: bool, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.png": photo(), "b.png": photo(1)}, panoptic)
    content = json.loads(labels.read_text())
    (content["annotations"] if panoptic else content["images"])[1]["file_name"] = name
    write_json(labels, content)

    done = detr_d2("check", labels, "--json", tmp_path / "faults.json")
    fixed = detr_d2("check", labels, "--fix", tmp_path / "fixed")

    assert done.returncode == 1 and not done.stderr, done
    assert any(fault["image_id"] == 2 and fault["severity"] == "error" for fault in faults(tmp_path / "faults.json"))
    assert fixed.returncode == 0, fixed.stderr
    assert [image["id"] for image in json.loads((tmp_path / "fixed/labels.json").read_text())["images"]] == [1]
