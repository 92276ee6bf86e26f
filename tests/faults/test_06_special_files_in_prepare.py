"""A pipe or a device where ``prepare`` expects a file is named; nothing waits for it, or reads it to no end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.preparing import HEIGHT, WIDTH, leftovers, prepare, read_json, within, write_export, write_image
from tests.prepare.made_exports import mask_files, write_folder, xml_files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes and devices as Linux has them")


def pipe(path: Path) -> Path:
    """A named pipe that nobody writes into."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def device(path: Path) -> Path:
    """A link to a device that never ends."""
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")
    return path


KINDS = pytest.mark.parametrize(("put", "word"), [(pipe, "a named pipe"), (device, "a device")])
Put = Callable[[Path], Path]


def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Runs a command that must be refused in a moment, and gives its message."""
    with within(60):
        code = prepare(*words, "--out", tmp_path / "made")
    message = capsys.readouterr().err
    assert code == 2 and leftovers(tmp_path) == [] and not (tmp_path / "made").exists()
    return message


@KINDS
def test_a_json_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], put: Put, word: str) -> None:
    path = put(write_export(tmp_path / "site") / "coco.json")

    assert f"{path} is {word}" in refused(tmp_path, capsys, "--cvat", tmp_path / "site")


@KINDS
def test_an_export_that_is_given_itself_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], put: Put, word: str
) -> None:
    path = put(tmp_path / "job.zip")

    assert f"{path} is {word}" in refused(tmp_path, capsys, "--cvat", path)


@KINDS
@pytest.mark.parametrize("name", ["job.zip", "annotations.xml", "other.xml", "labelmap.txt"])
def test_what_lies_in_a_folder_of_exports_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], put: Put, word: str, name: str
) -> None:
    files = xml_files("") if name != "labelmap.txt" else mask_files(np.zeros((30, 40), np.uint8), None, "a:1,1,1::")
    write_folder(tmp_path / "exports" / "pipes", {key: text for key, text in files.items() if key != name})
    write_export(tmp_path / "exports" / "bricks")
    path = put(tmp_path / "exports" / "pipes" / name)

    assert f"{path} is {word}" in refused(tmp_path, capsys, "--cvat", tmp_path / "exports")


@KINDS
def test_an_image_is_left_out_by_name(tmp_path: Path, put: Put, word: str) -> None:
    path = put(write_export(tmp_path / "site") / "images" / "1.jpg")

    with within(60):
        assert prepare("--cvat", tmp_path / "site", "--out", tmp_path / "made") == 0

    skipped = read_json(tmp_path / "made" / "report.json")["images"]["skipped"]
    assert len(skipped) == 1 and f"{path} is {word}" in skipped[0]["message"]


@KINDS
def test_a_mask_of_classes_is_left_out_by_name(tmp_path: Path, put: Put, word: str) -> None:
    colors = np.full((30, 40, 3), 9, np.uint8)
    folder = write_folder(tmp_path / "site", mask_files(colors, colors, "drum:9,9,9::"))
    for part in ("SegmentationClass", "SegmentationObject"):
        (folder / part / "2.png").write_bytes((folder / part / "1.png").read_bytes())
    write_image(folder / "JPEGImages" / "2.jpg", 4)
    Image.open(folder / "JPEGImages" / "2.jpg").resize((40, 30)).save(folder / "JPEGImages" / "2.jpg")
    path = put(folder / "SegmentationObject" / "1.png")

    with within(60):
        assert prepare("--cvat", folder, "--out", tmp_path / "made") == 0

    skipped = read_json(tmp_path / "made" / "report.json")["images"]["skipped"]
    assert len(skipped) == 1 and f"{path} is {word}" in skipped[0]["message"]


@KINDS
def test_a_mask_of_stuff_is_left_out_by_name(tmp_path: Path, put: Put, word: str) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "classes.yaml").write_text("1: wall")
    for number in (0, 2):
        Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(masks / f"{number}.png")
    path = put(masks / "1.png")
    words = ("--cvat", write_export(tmp_path / "site"), "--stuff", "masks", masks, "--out", tmp_path / "made")

    with within(60):
        assert prepare(*words) == 0

    skipped = read_json(tmp_path / "made" / "report.json")["images"]["skipped"]
    assert len(skipped) == 1 and f"{path} is {word}" in skipped[0]["message"]


@KINDS
@pytest.mark.parametrize("name", ["classes.yaml", "labelmap.txt"])
def test_a_list_of_the_classes_of_masks_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], put: Put, word: str, name: str
) -> None:
    (tmp_path / "masks").mkdir()
    path = put(tmp_path / "masks" / name)
    words = ("--cvat", write_export(tmp_path / "site"), "--stuff", "masks", tmp_path / "masks")

    assert f"{path} is {word}" in refused(tmp_path, capsys, *words)


@KINDS
@pytest.mark.parametrize(("option", "name"), [("--classes", "map.yaml"), ("--categories", "list.json")])
def test_a_list_of_classes_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], put: Put, word: str, option: str, name: str
) -> None:
    path = put(tmp_path / name)

    message = refused(tmp_path, capsys, "--cvat", write_export(tmp_path / "site"), option, path)

    assert f"{path} is {word}" in message


@KINDS
def test_a_panoptic_png_is_left_out_by_name(tmp_path: Path, put: Put, word: str) -> None:
    folder = tmp_path / "coco"
    for number in (1, 2):
        write_image(folder / "images" / f"{number}.jpg", number)
        (folder / "panoptic").mkdir(exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), (7, 0, 0), np.uint8)).save(folder / "panoptic" / f"{number}.png")
    segment = {"id": 7, "category_id": 1, "iscrowd": 0, "area": WIDTH * HEIGHT, "bbox": [0, 0, WIDTH, HEIGHT]}
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": WIDTH, "height": HEIGHT} for n in (1, 2)],
        "annotations": [{"image_id": n, "file_name": f"{n}.png", "segments_info": [segment]} for n in (1, 2)],
        "categories": [{"id": 1, "name": "wall", "isthing": 0}],
    }
    (folder / "panoptic.json").write_text(json.dumps(content))
    path = put(folder / "panoptic" / "1.png")

    with within(60):
        assert prepare("--coco", folder, "--out", tmp_path / "made") == 0

    skipped = read_json(tmp_path / "made" / "report.json")["images"]["skipped"]
    assert len(skipped) == 1 and f"{path} is {word}" in skipped[0]["message"]


@KINDS
def test_in_the_place_of_an_answer_that_was_kept_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Put, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one_wall.py").write_text(
        "import numpy as np\ndef label(pixels):\n"
        "    return np.ones(pixels.shape[:2], int), [{'id': 1, 'name': 'wall-brick'}]\n"
    )
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"
    words = ("--stuff", "model", "one_wall:label", "--cache", cache, "--out", tmp_path / "made")
    assert prepare("--cvat", write_export(tmp_path / "site"), *words) == 0
    for path in list(cache.rglob("*.png")):
        put(path)

    with within(60):
        assert prepare("--cvat", tmp_path / "site", *words) == 2

    assert f"is {word}; a regular file is needed" in capsys.readouterr().err
    assert not any(path.is_file() for path in cache.rglob("*.png"))
