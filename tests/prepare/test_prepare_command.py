"""``detr-d2 prepare`` as users call it."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_d2.cli import COMMANDS, main
from detr_d2.data import read_panoptic_png
from detr_d2.errors import ConfigError, run_command
from detr_d2.prepare import command, pipeline
from detr_d2.yard import write_yard_exports


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The yard as people export it, with the truth beside it."""
    return write_yard_exports(tmp_path_factory.mktemp("exports") / "yard", images=12)


def prepare(*words: str | Path) -> int:
    return main(["prepare", *map(str, words), "--workers", "1"])


def test_the_yard_is_prepared_as_its_ground_truth_says(yard: Path, tmp_path: Path) -> None:
    out = tmp_path / "yard"

    code = prepare("--cvat", yard / "cvat", "--stuff", "masks", yard / "stuff", "--overlap", "last", "--out", out)

    assert code == 0
    for things, equal in _equal_pixels(out, yard / "ground_truth").items():
        assert equal >= 0.995, things


def _equal_pixels(out: Path, gt: Path) -> dict[str, float]:
    """The share of the truth's pixels, of things and of stuff, that belong to one segment of the same class."""
    true_content = json.loads((gt / "panoptic.json").read_text())
    true_files = {image["id"]: image["file_name"] for image in true_content["images"]}
    true_names = {one["id"]: (one["name"], bool(one["isthing"])) for one in true_content["categories"]}
    expected = {true_files[one["image_id"]]: one for one in true_content["annotations"]}
    equal, total = {True: 0, False: 0}, {True: 0, False: 0}
    for split in ("train", "val"):
        content = json.loads((out / f"panoptic_{split}.json").read_text())
        files = {image["id"]: image["file_name"] for image in content["images"]}
        names = {one["id"]: one["name"] for one in content["categories"]}
        for annotation in content["annotations"]:
            true = expected.pop(files[annotation["image_id"]])
            ids = read_panoptic_png(str(out / "panoptic" / annotation["file_name"]))
            true_ids = read_panoptic_png(str(gt / true["file_name"]))
            class_of = {segment["id"]: names[segment["category_id"]] for segment in annotation["segments_info"]}
            for segment in true["segments_info"]:
                name, is_thing = true_names[segment["category_id"]]
                found, counts = np.unique(ids[true_ids == segment["id"]], return_counts=True)
                total[is_thing] += counts.sum()
                equal[is_thing] += counts.max() if class_of.get(int(found[counts.argmax()])) == name else 0
    assert not expected
    return {"things": equal[True] / total[True], "stuff": equal[False] / total[False]}


def test_real_cvat_exports_become_a_dataset_without_a_fault(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "construction"

    assert prepare("--cvat", shared_data / "construction_sample" / "cvat", "--stuff", "misc", "--out", out) == 0

    assert main(["check", str(out), "--workers", "1"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["images"]["train"] + report["images"]["val"] == 6
    assert {one["name"]: one["kept"] for one in report["classes"] if one["is_thing"]} == {
        "cu_piping": 1,
        "dump_truck_tipper_truck": 1,
        "hydra_crane": 2,
        "smoke_detectors": 1,
        "vitrified_tiles": 1,
        "wheel_loader": 2,
    }


def test_coco_panoptic_keeps_every_pixel(shared_data: Path, tmp_path: Path) -> None:
    source, out = shared_data / "coco128_panoptic" / "val", tmp_path / "coco"

    code = prepare("--coco", source, "--categories", "coco", "--min-area", "0", "--val", "0", "--out", out, "--link")

    assert code == 0
    content = json.loads((out / "panoptic_train.json").read_text())
    original = json.loads((source / "panoptic.json").read_text())
    assert [one["name"] for one in content["categories"]] == [one["name"] for one in original["categories"]]
    segments = {
        Path(one["file_name"]).name: sorted(
            (s["category_id"], s["area"], s["iscrowd"], s["bbox"]) for s in one["segments_info"]
        )
        for one in content["annotations"]
    }
    assert segments == {
        one["file_name"]: sorted((s["category_id"], s["area"], s["iscrowd"], s["bbox"]) for s in one["segments_info"])
        for one in original["annotations"]
    }


def _segments(content: dict[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
    """Class, area, whether it is a crowd, and box of each segment, by picture."""
    return {
        Path(one["file_name"]).name: sorted(
            (segment["category_id"], segment["area"], segment["iscrowd"], segment["bbox"])
            for segment in one["segments_info"]
        )
        for one in content["annotations"]
    }


def test_coco_instances_are_read_with_their_crowds(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "coco"

    assert prepare("--coco", shared_data / "tiny_coco_things", "--out", out, "--link") == 0

    report = json.loads((out / "report.json").read_text())
    assert {one["name"]: one["crowds"] for one in report["classes"] if one["crowds"]} == {"person": 3, "book": 1}
    spoon = next(one for one in report["classes"] if one["name"] == "spoon")
    assert spoon["dropped"] == {"covered": 1}  # the fifth crowd, which lies below what was labelled one by one
    assert main(["check", str(out / "register.yaml"), "--workers", "1"]) == 0


def test_the_command_says_what_it_made_and_how_to_use_it(
    yard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare("--cvat", yard / "cvat", "--out", tmp_path / "site", "--name", "north")

    printed = capsys.readouterr()
    assert re.search(r"\b9 images for training and 3 for validation; \d+ segments of 6 classes", printed.out)
    assert "detr-d2 check" in printed.out and "north_train, north_val" in printed.out
    assert "labels of cone from CVAT are crowds" in printed.err


def test_help_shows_examples_and_every_overlap_policy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])

    text = capsys.readouterr().out
    assert "examples:" in text
    for policy in ("small-on-top", "z-order", "file-order", "last", "error"):
        assert re.search(rf"\b{policy}  ", text)
    assert "prepare" in COMMANDS


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--val", "1"], "share"),
        (["--val", "nan"], "share"),
        (["--seed", "-1"], "whole number"),
        (["--workers", "0"], "whole number from 1"),
        (["--jpeg", "101"], "whole number from 1 to 100"),
        (["--link", "--jpeg"], "not allowed with"),
        (["--overlap", "top"], "invalid choice"),
        (["--min-area", "1e3"], "whole number"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    words: Sequence[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", "--cvat", "x", "--out", "y", *words])

    assert expected in capsys.readouterr().err


def test_nothing_to_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: main(["prepare", "--out", str(tmp_path / "site")])) == 2

    assert "--cvat" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["cvat", "cvat/prepared"])
def test_a_dataset_among_the_exports_is_refused(
    yard: Path, tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exports = shutil.copytree(yard / "cvat", tmp_path / "cvat")

    assert run_command(lambda: prepare("--cvat", exports, "--out", tmp_path / out)) == 2

    assert "cvat" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"cvat"}


def test_class_names_that_a_list_lacks_are_an_error_with_near_names(
    yard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", "--cvat", str(yard / "cvat"), "--categories", "construction", "--out", str(tmp_path / "site")]

    assert run_command(lambda: main(words)) == 2

    message = capsys.readouterr().err
    assert "'barrow'" in message and "--classes" in message
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_says_that_the_same_command_goes_on(
    yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*about: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "progress", interrupt)

    assert run_command(lambda: prepare("--cvat", yard / "cvat", "--out", tmp_path / "site")) == 130
    assert "goes on" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
def test_a_folder_that_cannot_be_written_is_named(
    yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)

    assert run_command(lambda: prepare("--cvat", yard / "cvat", "--out", tmp_path / "site")) == 2
    message = capsys.readouterr().err
    assert "No space left on device" in message and "goes on where it stopped" in message


def test_the_overlap_policies_in_words_are_those_there_are() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)

    options = command._options(parser.parse_args(["--out", "x", "--jpeg", "--crowd", "clear"]))

    assert (options.images, options.quality, options.crowds) == ("jpeg", 92, "clear")
    with pytest.raises(ConfigError):
        command._exports(parser.parse_args(["--out", "x"]))


def test_a_zip_is_prepared_like_its_folder(yard: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "north_gate"), "zip", yard / "cvat" / "north_gate")

    prepare("--cvat", yard / "cvat" / "north_gate", "--out", tmp_path / "folder", "--name", "site")
    prepare("--cvat", tmp_path / "north_gate.zip", "--out", tmp_path / "zip", "--name", "site", "--link")

    for name in ("panoptic_train.json", "instances_val.json", "categories.yaml", "images/north_gate/0001.jpg"):
        assert (tmp_path / "folder" / name).read_bytes() == (tmp_path / "zip" / name).read_bytes()
    with Image.open(tmp_path / "zip" / "images" / "north_gate" / "0001.jpg") as picture:
        assert picture.size == (160, 128)
