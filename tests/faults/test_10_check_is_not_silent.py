"""What training or prepare would stumble over, or pass over in silence, is named by ``detr-d2 check``."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detr_d2.data import register
from detr_d2.errors import UserError
from detr_d2.labels.archives import IMAGE_SUFFIXES
from tests.faults.label_files import detr_d2, photo, write_dataset, write_json

from detectron2.data import DatasetCatalog


def check(*words: Any) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and faults of ``detr-d2 check``."""
    done = detr_d2("check", *words, "--json", "-")
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)["faults"]


def errors(faults: list[dict[str, Any]]) -> list[str]:
    return [fault["code"] for fault in faults if fault["severity"] == "error"]


def loads(name: str, labels: Path) -> bool:
    """Whether training takes the labels."""
    register(name, labels.parent / "images", instances_json=labels)
    try:
        return bool(DatasetCatalog.get(name))
    except UserError:
        return False


@pytest.mark.parametrize("content", [{}, {"version": "5.2", "shapes": []}, {"info": {}, "licenses": []}])
@pytest.mark.parametrize("name", ["labels.json", "annotations/labels.json", "job/annotations/labels.json"])
def test_a_folder_in_which_nothing_could_be_checked_has_an_error(name: str, content: Any, tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a.png": photo()}).unlink()
    write_json(tmp_path / name, content)

    done = detr_d2("check", tmp_path)

    assert done.returncode in (1, 2)
    assert "labels.json" in done.stdout or "holds no dataset" in done.stderr


def test_another_json_beside_labels_is_only_mentioned(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a.png": photo()})
    write_json(tmp_path / "settings.json", {"version": "5.2"})

    code, faults = check(tmp_path)

    assert code == 0 and [(fault["code"], fault["severity"]) for fault in faults] == [("json-other", "warning")]


@pytest.mark.parametrize("panoptic", [False, True])
@pytest.mark.parametrize("emptied", [("images", "annotations"), ("annotations",)])
def test_labels_without_images_or_labels_have_an_error(
    emptied: tuple[str, ...], panoptic: bool, tmp_path: Path
) -> None:
    labels = write_dataset(tmp_path, {"a.png": photo()}, panoptic)
    content = json.loads(labels.read_text())
    write_json(labels, {**content, **{key: [] for key in emptied}})

    code, faults = check(labels)

    assert code == 1 and errors(faults) == ["json-empty"]


@pytest.mark.parametrize("quick", [(), ("--quick",)])
def test_repeated_keys_are_named(quick: tuple[str, ...], tmp_path: Path) -> None:
    labels = write_dataset(tmp_path, {"a.png": photo(), "b.png": photo(1)})
    text = labels.read_text()
    labels.write_text(text.replace('"annotations": [', '"annotations": [], "annotations": [', 1))

    code, faults = check(labels, *quick)

    assert code == 1
    (fault,) = faults
    assert fault["code"] == "json-repeated" and "'annotations'" in fault["message"]


def test_repeated_keys_of_labels_are_counted(tmp_path: Path) -> None:
    labels = write_dataset(tmp_path, {f"{name}.png": photo(number) for number, name in enumerate("abc")})
    text = labels.read_text()
    labels.write_text(text.replace('"iscrowd": 0', '"iscrowd": 1, "iscrowd": 0'))

    code, faults = check(labels)

    assert code == 1
    (fault,) = faults
    assert fault["code"] == "json-repeated" and "'iscrowd'" in fault["message"] and "3 objects" in fault["message"]


def test_a_copy_keeps_the_last_of_repeated_values_and_loses_no_list(tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.png": photo(), "b.png": photo(1)})
    text = labels.read_text()
    labels.write_text(text.replace('"iscrowd": 0', '"iscrowd": 1, "iscrowd": 0'))
    twice = text.replace('"annotations": [', '"annotations": [], "annotations": [', 1)
    (tmp_path / "made" / "twice.json").write_text(twice)

    alone = detr_d2("check", tmp_path / "made" / "twice.json", "--fix", tmp_path / "never")
    done = detr_d2("check", labels, "--fix", tmp_path / "fixed")

    assert alone.returncode == 2 and "annotations" in alone.stderr and not (tmp_path / "never").exists()
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "fixed" / "labels.json").read_text()) == json.loads(text)
    assert "json-repeated" in (tmp_path / "fixed" / "changes.csv").read_text()


def saved_as(kind: str) -> bytes:
    file = io.BytesIO()
    photo(size=(32, 32)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jp2", "JPEG2000"),
        ("a.ico", "ICO"),
        ("a.tga", "TGA"),
        ("a.ppm", "PPM"),
        ("a.png", "JPEG2000"),
        ("a.jpg", "EPS"),
    ],
)
def test_images_that_nothing_else_takes_are_named(name: str, kind: str, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {name: saved_as(kind)})

    code, faults = check(labels)
    prepared = detr_d2("prepare", "--coco", tmp_path / "made", "--out", tmp_path / "out", "--workers", "1")

    assert prepared.returncode == 2
    assert code == 1 and errors(faults) == ["image-broken"]
    assert [fault["file"] for fault in faults if fault["severity"] == "error"] == [str(tmp_path / "made/images" / name)]


def test_names_that_say_nothing_of_images_are_warned_of_at_once(tmp_path: Path) -> None:
    labels = write_dataset(tmp_path, {"a.data": saved_as("PNG"), "b": saved_as("PNG"), "c.PNG": saved_as("PNG")})

    code, faults = check(labels, "--quick")

    assert code == 0 and [(one["code"], one["image_id"]) for one in faults] == [
        ("image-suffix", 1),
        ("image-suffix", 2),
    ]


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_images_of_every_suffix_are_taken_by_check_prepare_and_demo(suffix: str, tmp_path: Path) -> None:
    from detr_d2.prediction.image_files import find_inputs

    name = f"a{suffix}"
    kind = "JPEG" if suffix == ".jfif" else Image.registered_extensions()[suffix]
    folder = tmp_path / "made"
    labels = write_dataset(folder, {name: saved_as(kind)})

    assert check(labels)[0] == 0
    assert detr_d2("prepare", "--coco", folder, "--out", tmp_path / "out", "--workers", "1").returncode == 0
    assert [image.name for image in find_inputs([str(folder / "images")]).images] == [name]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    labels = write_dataset(tmp_path, {"a.png": photo()})
    labels.write_bytes(b"\xef\xbb\xbf" + labels.read_bytes())

    assert check(labels) == (0, [])
    assert loads(f"marked {tmp_path}", labels)


CROWDS: list[Any] = [True, False, None, 2, -1, 1.0, 0.0, 0.5, "0", "1", "", "no", [], [1], {}, math.nan, math.inf]
CROWDS += [10**400, "\ud800"]


@pytest.mark.parametrize("value", CROWDS, ids=lambda value: repr(value)[:12])
def test_what_iscrowd_must_not_be_is_an_error_and_fixed(value: Any, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.png": photo(), "b.png": photo(1)})
    content = json.loads(labels.read_text())
    content["annotations"][1]["iscrowd"] = value
    write_json(labels, content)

    code, faults = check(labels)
    done = detr_d2("check", labels, "--fix", tmp_path / "fixed")

    assert code == 1 and "crowd-value" in errors(faults)
    assert done.returncode == 0, done.stderr
    assert check(tmp_path / "fixed" / "labels.json")[0] == 0
    assert loads(f"fixed {tmp_path}", tmp_path / "fixed" / "labels.json")
    fixed = json.loads((tmp_path / "fixed" / "labels.json").read_text())
    assert all(type(entry["iscrowd"]) is int and entry["iscrowd"] in (0, 1) for entry in fixed["annotations"])


HALF = "\ud83d"  # the first half of a character outside of the basic plane


@pytest.mark.parametrize(
    ("place", "key"),
    [("images", "id"), ("images", "license"), ("categories", "name"), ("annotations", "text")],
)
def test_half_characters_are_errors_wherever_they_stand(place: str, key: str, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.png": photo(), "b.png": photo(1)})
    content = json.loads(labels.read_text())
    content[place][1][key] = f"x{HALF}y"
    if key == "id":
        content["annotations"][1]["image_id"] = f"x{HALF}y"
    write_json(labels, content)

    code, faults = check(labels)
    shown = detr_d2("check", labels)
    done = detr_d2("check", labels, "--fix", tmp_path / "fixed")

    assert code == 1 and errors(faults) in (["json-text"], ["category-name"])
    assert any(f"{place}[1]" in fault["message"] for fault in faults)
    assert shown.returncode == 1 and "Traceback" not in shown.stdout + shown.stderr
    assert done.returncode == 0, done.stderr
    assert check(tmp_path / "fixed" / "labels.json")[0] == 0
    written = (tmp_path / "fixed" / "labels.json").read_text()
    assert not re.search(r"\\u[dD][89a-fA-F]", written)


def test_half_characters_in_keys_and_in_great_number_are_said_once(tmp_path: Path) -> None:
    labels = write_dataset(tmp_path, {"a.png": photo()})
    content = json.loads(labels.read_text())
    content["info"] = {f"k{HALF}": [HALF] * 1000, "right": "\U0001f600"}
    write_json(labels, content)

    code, faults = check(labels)

    assert code == 1 and errors(faults) == ["json-text"] and "1001" in faults[0]["message"]


def test_whole_characters_that_json_writes_as_two_halves_are_no_fault(tmp_path: Path) -> None:
    labels = write_dataset(tmp_path, {"a.png": photo()})
    content = json.loads(labels.read_text())
    content["categories"][0]["name"] = "brick\U0001f600"
    write_json(labels, content)
    assert "\\ud83d" in labels.read_text()

    assert check(labels) == (0, [])


def test_names_of_files_that_are_no_utf8_are_errors(tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made", {"a.png": photo(), "b.png": photo(1)})
    strange = tmp_path / "made" / "images" / "b\udcff.png"
    (tmp_path / "made" / "images" / "b.png").rename(strange)
    content = json.loads(labels.read_text())
    content["images"][1]["file_name"] = strange.name
    write_json(labels, content)

    code, faults = check(labels)
    done = detr_d2("check", labels, "--fix", tmp_path / "fixed")

    assert code == 1 and "path-escape" in errors(faults)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "fixed" / "labels.json").read_text())["images"]) == 1


@pytest.mark.parametrize("panoptic", [False, True])
def test_a_folder_whose_own_name_is_no_utf8_is_checked_and_copied(panoptic: bool, tmp_path: Path) -> None:
    labels = write_dataset(tmp_path / "made\udcff", {"a.png": photo()}, panoptic)
    (tmp_path / "made\udcff" / "images" / "a.png").write_bytes(b"")

    shown = detr_d2("check", labels)
    report = detr_d2("check", labels.parent, "--json", tmp_path / "faults.json")
    done = detr_d2("check", labels, "--fix", tmp_path / "fixed\udcff")

    assert shown.returncode == report.returncode == 1
    assert "Traceback" not in shown.stderr + report.stderr + done.stderr
    named = json.loads((tmp_path / "faults.json").read_text())["faults"]
    assert "image-broken" in errors(named)
    assert done.returncode == 2  # no image is left


def test_labels_beside_zips_are_checked(tmp_path: Path) -> None:
    import zipfile

    labels = write_dataset(tmp_path, {"a.png": photo()})
    labels.write_text(labels.read_text().replace('"category_id": 1', '"category_id": 9'))
    inside = write_dataset(tmp_path / "inside", {"b.png": photo(1)})
    with zipfile.ZipFile(tmp_path / "job.zip", "w") as archive:
        archive.write(inside, "annotations/instances_default.json")
        archive.write(tmp_path / "inside" / "images" / "b.png", "images/b.png")
    for path in sorted((tmp_path / "inside").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "inside").rmdir()

    code, faults = check(tmp_path)

    assert code == 1 and errors(faults) == ["category-unknown"]
