"""What ``prepare`` reads, leaves out and leaves behind: nothing without a word, and no word that steers a terminal."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.preparing import (
    HEIGHT,
    WIDTH,
    annotation,
    box_ring,
    check,
    leftovers,
    prepare,
    prepare_until_disk_is_full,
    read_json,
    write_export,
)
from tests.prepare.made_exports import xml, xml_files

BOX = '<box label="brick" xtl="5" ytl="6" xbr="15" ybr="16" />'
ESCAPE = "\x1b[31mred\x07"


def xml_export(folder: Path, content: bytes) -> Path:
    for name, data in {**xml_files(BOX), "annotations.xml": content}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


# What refusals leave.


def test_overlaps_that_are_refused_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = [annotation(1, 1, [box_ring(4, 4, 20, 24)]), annotation(2, 1, [box_ring(8, 8, 24, 28)])]
    export = write_export(tmp_path / "exports", annotations=twice)

    assert prepare("--cvat", export, "--overlap", "error", "--out", tmp_path / "new" / "made") == 2

    assert "share" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"exports"}


def test_masks_that_are_not_there_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "classes.yaml").write_text("1: wall")
    words = ("--stuff", "masks", tmp_path / "masks", "--out", tmp_path / "made")

    assert prepare("--cvat", write_export(tmp_path / "exports"), *words) == 2

    assert leftovers(tmp_path) == []


def test_exports_without_a_label_leave_nothing(tmp_path: Path) -> None:
    export = write_export(tmp_path / "exports", annotations=[])

    assert prepare("--cvat", export, "--out", tmp_path / "made") == 2

    assert leftovers(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no limit of a file's size")
def test_a_refusal_leaves_what_another_run_has_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = write_export(tmp_path / "exports", 5)
    image = export / "images" / "4.jpg"
    image.write_bytes(image.read_bytes() + bytes(400_000))
    words = ("--cvat", export, "--out", tmp_path / "made")
    prepare_until_disk_is_full(*words, most_bytes=200_000)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "classes.yaml").write_text("1: wall")
    assert prepare(*words, "--stuff", "masks", tmp_path / "masks") == 2

    assert prepare(*words) == 0

    assert "4 of them from an interrupted run" in capsys.readouterr().out


# What is printed.


def test_class_names_do_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{ESCAPE} brick wall", f"{ESCAPE} brick wal", "crane"]
    crowd = annotation(4, 1, [box_ring(30, 4, 44, 24)], category_id=3, iscrowd=1)
    objects = [annotation(n, n, [box_ring(4, 4, 20, 24)], category_id=1 + n % 2) for n in (1, 2, 3)]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    export = write_export(tmp_path / "exports", categories=categories, annotations=[*objects, crowd])
    (tmp_path / "map.yaml").write_text("brik: null")

    code = prepare("--cvat", export, "--classes", tmp_path / "map.yaml", "--out", tmp_path / "made")

    printed = capsys.readouterr()
    assert code == 0 and "\\x1b[31mred\\x07 brick wal" in printed.err
    assert "\x1b" not in printed.err + printed.out and "\x07" not in printed.err + printed.out


def test_what_readers_warn_of_does_not_steer_the_terminal(tmp_path: Path) -> None:
    export = write_export(tmp_path / "exports" / "site")
    (export / f"no{ESCAPE}tes.json").write_text("{}")

    ended = prepare_until_disk_is_full("--cvat", tmp_path / "exports", "--out", tmp_path / "made", most_bytes=2**30)

    assert ended.returncode == 0
    assert "no\\x1b[31mred\\x07tes.json" in ended.stderr and "\x1b" not in ended.stderr


# What is read.


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "iso-8859-1"])
def test_xml_is_read_in_whatever_encoding_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    name = encoding.removesuffix("-le").removesuffix("-sig")
    text = xml(BOX).decode().replace('encoding="utf-8"', f'encoding="{name}"')
    marked = "\ufeff" + text if encoding == "utf-16-le" else text
    export = xml_export(tmp_path / "exports", marked.encode(encoding))
    (export / "annotations.xml").rename(export / "job 7.xml")

    assert check(export) == 0
    assert prepare("--cvat", export, "--val", "0", "--out", tmp_path / "made") == 0
    assert "1 segments of 1 classes of things" in capsys.readouterr().out


def assert_one_answer(export: Path, folder: Path) -> None:
    """What check calls an error prepare reports under the same code."""
    assert check(export, "--json", folder / "faults.json") == 1
    assert prepare("--cvat", export, "--val", "0", "--out", folder / "made") == 0

    codes = {one["code"] for one in read_json(folder / "faults.json")["faults"] if one["severity"] == "error"}
    notes = read_json(folder / "made" / "report.json")["notes"]
    assert len(codes) == 1 and codes <= set(notes)


# Sizes.


@pytest.mark.parametrize("width", ["1000000000", "999999999", "99999999999999999999", "-40", "0", "forty", "1" * 5000])
def test_a_size_that_no_image_has_is_an_error_in_xml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], width: str
) -> None:
    content = xml(BOX).decode().replace('width="40"', f'width="{width}"').encode()
    export = xml_export(tmp_path / "exports", content)

    assert_one_answer(export, tmp_path)
    capsys.readouterr()


@pytest.mark.parametrize("width", [10**9, 10**30, -40, 0, "40", None, 40.5, True])
def test_a_size_that_no_image_has_is_an_error_in_coco_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], width: object
) -> None:
    export = write_export(tmp_path / "exports")
    content = read_json(export / "coco.json")
    content["images"][0]["width"] = width
    (export / "coco.json").write_text(json.dumps(content))

    assert_one_answer(export, tmp_path)
    capsys.readouterr()


def test_the_largest_image_is_the_same_for_check_and_prepare(tmp_path: Path) -> None:
    export = write_export(tmp_path / "exports")
    content = read_json(export / "coco.json")
    content["images"][0].update(width=20_000, height=10_000)
    (export / "coco.json").write_text(json.dumps(content))
    Image.fromarray(np.zeros((10_000, 20_000), np.uint8)).convert("1").save(export / "images" / "0.png")
    shutil.move(export / "images" / "0.png", export / "images" / "0.jpg")

    assert check(export, "--json", tmp_path / "faults.json") == 1
    assert prepare("--cvat", export, "--val", "0", "--out", tmp_path / "made") == 0

    codes = {one["code"] for one in read_json(tmp_path / "faults.json")["faults"] if one["severity"] == "error"}
    report = read_json(tmp_path / "made" / "report.json")
    assert codes == {"image-large"} and report["images"]["skipped"][0]["reason"] == "image-large"
    assert (WIDTH, HEIGHT) == (48, 40)
