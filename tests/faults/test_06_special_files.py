"""Named pipes, devices and sockets in place of files are named; nothing waits for them or reads them without end."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detr_d2.cli import main
from detr_d2.data import DetrPanopticDatasetMapper
from detr_d2.errors import DatasetError, run_command
from tests.faults.label_files import detr_d2, everything_in, is_one_sentence, photo, write_dataset


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def empty_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def bound_socket(path: Path) -> None:
    above, name = os.getcwd(), path.name
    os.chdir(path.parent)  # a socket's path must be short
    try:
        socket.socket(socket.AF_UNIX).bind(name)
    finally:
        os.chdir(above)


def folder(path: Path) -> None:
    path.mkdir()


SPECIAL = [pipe, endless_device, empty_device, link_to_pipe, bound_socket, folder]
Maker = Callable[[Path], None]


def replace_by(make: Maker, path: Path) -> None:
    path.unlink()
    make(path)


def check(*words: Any, report: Path) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and faults of ``detr-d2 check``, which must end."""
    done = detr_d2("check", *words, "--json", report)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(report.read_text())["faults"] if report.is_file() else []


@pytest.mark.parametrize("quick", [(), ("--quick",)])
@pytest.mark.parametrize("make", SPECIAL)
def test_check_names_an_image_that_is_no_file(make: Maker, quick: tuple[str, ...], tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.png": photo(), "b.png": photo(1)})
    replace_by(make, tmp_path / "made" / "images" / "b.png")

    code, faults = check(labels, *quick, report=tmp_path / "faults.json")

    assert code == 1
    (fault,) = (fault for fault in faults if fault["severity"] == "error")
    assert fault["file"].endswith("b.png") and fault["image_id"] == 2
    assert "a regular file is needed" in fault["message"]


@pytest.mark.parametrize("make", [pipe, endless_device])
def test_check_names_a_panoptic_png_that_is_no_file(make: Maker, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.jpg": photo()}, panoptic=True)
    replace_by(make, tmp_path / "made" / "panoptic" / "a.png")

    code, faults = check(labels, report=tmp_path / "faults.json")

    assert code == 1 and [fault["code"] for fault in faults] == ["png-missing"]


@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize("name", ["labels.json", "annotations/instances_b.json", "coco.json"])
def test_check_names_labels_that_are_no_file(make: Maker, name: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "made", {"a.png": photo()})
    special = tmp_path / "made" / name
    special.parent.mkdir(exist_ok=True)
    special.unlink(missing_ok=True)
    make(special)

    named = check(special, report=tmp_path / "faults.json")
    found = check(tmp_path / "made", report=tmp_path / "more.json")

    for code, faults in (named, found):
        if faults:
            assert code == 1
            assert [fault["file"] for fault in faults if fault["severity"] == "error"] == [str(special)]
        else:
            assert code == 2


def test_check_names_a_pipe_beside_labels_that_are_right(tmp_path: Path) -> None:
    write_dataset(tmp_path / "made", {"a.png": photo()})
    os.mkfifo(tmp_path / "made" / "more.json")

    code, faults = check(tmp_path / "made", report=tmp_path / "faults.json")

    assert code == 1 and [fault["file"] for fault in faults] == [str(tmp_path / "made" / "more.json")]


@pytest.mark.parametrize("make", [pipe, endless_device, bound_socket])
@pytest.mark.parametrize("name", ["register.yaml", "job.zip", "annotations.xml", "labelmap.txt", "job/annotations.xml"])
def test_check_ends_whatever_is_special(make: Maker, name: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "made", {"a.png": photo()})
    (tmp_path / "made" / "job").mkdir()
    if name == "labelmap.txt":  # nothing without masks beside it
        (tmp_path / "made" / "SegmentationClass").mkdir()
        photo().save(tmp_path / "made" / "SegmentationClass" / "a.png")
    make(tmp_path / "made" / name)

    in_folder = detr_d2("check", tmp_path / "made")
    by_name = detr_d2("check", tmp_path / "made" / name)

    assert in_folder.returncode in (1, 2) and Path(name).name in in_folder.stdout + in_folder.stderr
    assert by_name.returncode in (1, 2)
    assert "Traceback" not in in_folder.stderr + by_name.stderr


@pytest.mark.parametrize("make", SPECIAL)
def test_a_repaired_copy_has_no_special_files(make: Maker, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.png": photo(), "b.png": photo(1)})
    make(tmp_path / "made" / "images" / "c.png")
    replace_by(make if make is not link_to_pipe else pipe, tmp_path / "made" / "images" / "b.png")

    done = detr_d2("check", labels, "--fix", tmp_path / "fixed")

    assert done.returncode == 0, done.stderr
    assert sorted(everything_in(tmp_path / "fixed")) == ["changes.csv", "images/a.png", "labels.json"]
    assert "b.png" in (tmp_path / "fixed" / "changes.csv").read_text()


def test_a_repaired_copy_has_the_content_of_links_and_no_links(tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.png": photo(), "b.png": photo(1)})
    kept = tmp_path / "kept.png"
    shutil.move(tmp_path / "made" / "images" / "b.png", kept)
    (tmp_path / "made" / "images" / "b.png").symlink_to(kept)
    (tmp_path / "made" / "images" / "loop.png").symlink_to("loop.png")

    done = detr_d2("check", labels, "--fix", tmp_path / "fixed")

    assert done.returncode == 0, done.stderr
    copied = everything_in(tmp_path / "fixed")
    assert copied["images/b.png"] == kept.read_bytes()
    assert not any(path.is_symlink() for path in (tmp_path / "fixed").rglob("*"))


@pytest.mark.parametrize("make", SPECIAL)
def test_training_refuses_an_image_that_is_no_file(make: Maker, tmp_path: Path) -> None:
    make(tmp_path / "a.png")
    mapper = DetrPanopticDatasetMapper(False, augmentations=[])

    with pytest.raises(DatasetError, match=r"a\.png"):
        mapper({"file_name": str(tmp_path / "a.png"), "image_id": 1})


@pytest.mark.parametrize("place", ["images/a.jpg", "panoptic/a.png", "labels.json"])
@pytest.mark.parametrize("make", [pipe, endless_device, bound_socket])
def test_browse_refuses_what_is_no_file(make: Maker, place: str, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.jpg": photo()}, panoptic=True)
    replace_by(make, tmp_path / "made" / place)

    done = detr_d2("browse", labels, "--out", tmp_path / "page")

    assert is_one_sentence(done), done.stderr
    assert Path(place).name in done.stderr


@pytest.mark.parametrize("place", ["labels.json", "panoptic/a.png"])
@pytest.mark.parametrize("side", ["--gt", "--pred"])
@pytest.mark.parametrize("make", [pipe, endless_device, empty_device, bound_socket])
def test_pq_refuses_what_is_no_file(make: Maker, side: str, place: str, tmp_path: Path) -> None:
    words: list[Any] = []
    for name in ("--gt", "--pred"):
        labels = write_dataset(tmp_path / name, {"a.jpg": photo()}, panoptic=True)
        words += [name, labels, f"{name}-folder", tmp_path / name / "panoptic"]
    replace_by(make, tmp_path / side / place)

    done = detr_d2("pq", *words)

    assert is_one_sentence(done), done.stderr
    assert Path(place).name in done.stderr


@pytest.mark.parametrize("make", [pipe, endless_device, bound_socket])
def test_registered_labels_that_are_no_file_are_refused(make: Maker, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.jpg": photo()})
    replace_by(make, labels)
    (tmp_path / "register.yaml").write_text(
        f"- name: {make.__name__}_train\n  images: {tmp_path}/made/images\n  instances_json: {labels}\n"
    )

    done = detr_d2("browse", tmp_path / "register.yaml", "--out", tmp_path / "page")

    assert is_one_sentence(done) and "labels.json" in done.stderr, done.stderr


@pytest.mark.parametrize("make", [pipe, endless_device])
def test_images_named_on_a_command_line_are_refused(make: Maker, tmp_path: Path) -> None:
    from detr_d2.prediction.image_files import find_inputs
    from detr_d2.prediction.images import ImageError, read_image

    make(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")

    assert [image.name for image in find_inputs([str(tmp_path)]).images] == ["b.png"]
    with pytest.raises(ImageError, match=r"a\.png"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "words",
    [
        ("plot", "{loop}"),
        ("plot", "a={loop}/metrics.json"),
        ("compare", "{loop}", "b={loop}"),
        ("explain", "model.pth", "{loop}", "--out", "{loop}"),
        ("explain", "model.pth", "photo.jpg", "--out", "{loop}/why"),
        ("export", "model.pth", "{loop}/model.onnx"),
        ("predict", "model.pth", "{loop}"),
    ],
    ids=" ".join,
)
def test_a_link_to_itself_is_refused(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")

    code = run_command(lambda: main([word.replace("{loop}", str(tmp_path / "loop")) for word in words]))

    message = capsys.readouterr().err
    assert code == 2 and "error: " in message and "Traceback" not in message
