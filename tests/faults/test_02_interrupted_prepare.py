"""A run of ``prepare`` that was interrupted goes on, but not with what has changed since, nor with what failed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2.data import read_panoptic_png
from tests.faults.preparing import HEIGHT, WIDTH, prepare, prepare_until_disk_is_full, read_json, write_export

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the system has no limit of a file's size")
#: Bytes of the image at which a run ends, and the most that a file may have then.
LARGE, LIMIT = 400_000, 200_000


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An export of five images, of which the fourth is a large file."""
    folder = write_export(tmp_path / "site", 5)
    image = folder / "images" / "3.jpg"
    image.write_bytes(image.read_bytes() + bytes(LARGE))
    return folder


def write_masks(folder: Path, value: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A mask of one class for each of the images."""
    folder.mkdir(exist_ok=True)
    (folder / "classes.yaml").write_text("1: wall-brick\n2: sky-other-merged\n")
    for number in range(5):
        Image.fromarray(np.full(size, value, np.uint8)).save(folder / f"{number}.png")
    return folder


def interrupt(*words: str | Path) -> None:
    """A run that stops at the fourth image."""
    ended = prepare_until_disk_is_full(*words, most_bytes=LIMIT)
    assert ended.returncode == 2 and "goes on where it stopped" in ended.stderr, ended.stderr


def stuff_of(dataset: Path) -> dict[str, set[str]]:
    """Names of the classes of stuff of each image."""
    content = read_json(dataset / "panoptic_train.json")
    names = {one["id"]: one["name"] for one in content["categories"] if not one["isthing"]}
    return {
        one["file_name"]: {names[s["category_id"]] for s in one["segments_info"] if s["category_id"] in names}
        for one in content["annotations"]
    }


def test_masks_that_changed_since_are_read_again(export: Path, tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "masks", 1)
    words = ("--cvat", export, "--stuff", "masks", masks, "--val", "0", "--out", tmp_path / "made")
    interrupt(*words)
    write_masks(masks, 2)

    assert prepare(*words) == 0

    found = stuff_of(tmp_path / "made")
    assert len(found) == 5 and set(map(tuple, found.values())) == {("sky",)}


def test_a_mask_that_came_since_is_read(export: Path, tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "masks", 1)
    words = ("--cvat", export, "--stuff", "masks", masks, "--val", "0", "--out", tmp_path / "made")
    (masks / "0.png").rename(tmp_path / "0.png")
    interrupt(*words)
    (tmp_path / "0.png").rename(masks / "0.png")

    assert prepare(*words) == 0

    assert set(map(tuple, stuff_of(tmp_path / "made").values())) == {("wall",)}


def test_an_image_that_failed_is_tried_again(export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever made it fail: here the mask is written anew with the size and the time of the wrong one."""
    masks = write_masks(tmp_path / "masks", 1)
    words = ("--cvat", export, "--stuff", "masks", masks, "--val", "0", "--out", tmp_path / "made")
    Image.fromarray(np.ones((HEIGHT, WIDTH - 1), np.uint8)).save(masks / "1.png")
    before = (masks / "1.png").stat()
    interrupt(*words)
    good = (masks / "0.png").read_bytes()
    (masks / "1.png").write_bytes(good + bytes(max(0, before.st_size - len(good))))
    os.utime(masks / "1.png", ns=(before.st_atime_ns, before.st_mtime_ns))

    assert prepare(*words) == 0

    assert len(stuff_of(tmp_path / "made")) == 5
    assert "left out" not in capsys.readouterr().err


FUNCTION = """
import numpy as np
from {helper} import NAME

def label(pixels):
    return np.ones(pixels.shape[:2], int), [{{"id": 1, "name": NAME}}]

label.files = ["{weights}"]
"""


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module ``stuff_labels``, what it imports, and the file that it depends on."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"one")
    (folder / "stuff_names.py").write_text("NAME = 'wall-brick'\n")
    text = FUNCTION.format(helper="stuff_names", weights=folder / "weights.bin")
    (folder / "stuff_labels.py").write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return folder


def prepare_with_function(export: Path, out: Path) -> int:
    """A run in a process of its own, as modules are read once in each."""
    words = ("--cvat", export, "--stuff", "model", "stuff_labels:label", "--val", "0", "--out", out)
    return prepare_until_disk_is_full(*words, most_bytes=2**30).returncode


def test_a_function_whose_module_imports_something_else_now_is_asked_again(
    export: Path, function: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    interrupt("--cvat", export, "--stuff", "model", "stuff_labels:label", "--val", "0", "--out", out)
    (function / "stuff_names.py").write_text("NAME = 'sky-other-merged'\n")

    assert prepare_with_function(export, out) == 0

    assert set(map(tuple, stuff_of(out).values())) == {("sky",)}


@pytest.mark.parametrize("changes", [True, False])
def test_a_function_is_asked_again_where_a_file_that_it_names_has_changed(
    export: Path, function: Path, tmp_path: Path, changes: bool
) -> None:
    out, asked = tmp_path / "made", tmp_path / "asked"
    counting = f"open({str(asked)!r}, 'a').write('x')"
    text = (function / "stuff_labels.py").read_text().replace("    return", f"    {counting}\n    return")
    (function / "stuff_labels.py").write_text(text)
    interrupt("--cvat", export, "--stuff", "model", "stuff_labels:label", "--val", "0", "--out", out)
    before = asked.stat().st_size
    if changes:
        (function / "weights.bin").write_bytes(b"other")

    assert prepare_with_function(export, out) == 0

    assert asked.stat().st_size - before == (5 if changes else 0)


def test_the_message_of_an_interrupted_run_names_what_it_keeps(export: Path, tmp_path: Path) -> None:
    ended = prepare_until_disk_is_full("--cvat", export, "--out", tmp_path / "made", most_bytes=LIMIT)

    assert ended.returncode == 2 and ended.stderr.startswith("error: ") and "Traceback" not in ended.stderr
    assert str(tmp_path / ".made.partial") in ended.stderr
    shutil.rmtree(tmp_path / ".made.partial")


def test_what_was_kept_is_used_where_nothing_has_changed(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = write_masks(tmp_path / "masks", 1)
    words = ("--cvat", export, "--stuff", "masks", masks, "--val", "0", "--out", tmp_path / "made")
    interrupt(*words)

    assert prepare(*words) == 0

    assert "3 of them from an interrupted run" in capsys.readouterr().out
    ids = read_panoptic_png(str(next((tmp_path / "made" / "panoptic").rglob("0.png"))))
    assert ids.shape == (HEIGHT, WIDTH) and (ids > 0).all()
