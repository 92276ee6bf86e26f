"""Exports that aren't COCO's, and exports in zips: their faults stand in the same table."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_d2.check import Fault, dataset_faults, find_sources
from detr_d2.cli import main
from detr_d2.errors import DatasetError
from tests.prepare.made_exports import (
    HEIGHT,
    SQUARE,
    WIDTH,
    annotation,
    coco_files,
    image_bytes,
    mask_files,
    write_folder,
    write_zip,
    xml_files,
)

BOX = '<box label="brick" xtl="5" ytl="6" xbr="15" ybr="16"/>'
LABEL_MAP = "background:0,0,0::\nbrick:255,0,0::\n"


def faults_of(path: Path) -> list[Fault]:
    """What a check finds."""
    return list(dataset_faults(find_sources(str(path))))


def codes_of(path: Path) -> set[str]:
    """The kinds of faults that a check finds."""
    return {found.code for found in faults_of(path)}


def red(width: int = WIDTH) -> np.ndarray:
    """Masks of one class."""
    masks = np.zeros((HEIGHT, width, 3), np.uint8)
    masks[:5, :5, 0] = 255
    return masks


def kinds() -> dict[str, dict[str, bytes]]:
    """An export of each kind without a fault."""
    return {
        "coco": coco_files(annotation()),
        "xml": xml_files(BOX),
        "masks": mask_files(red(), red(), LABEL_MAP),
    }


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["coco", "xml", "masks"])
def test_export_without_a_fault_has_none(kind, packed, tmp_path):
    files = kinds()[kind]
    path = write_zip(tmp_path / "job.zip", files) if packed else write_folder(tmp_path / "job", files)

    assert faults_of(path) == []


@pytest.mark.parametrize(
    ("shapes", "code"),
    [
        ('<polygon label="brick" points="1,2;3,4"/>', "polygon-points"),
        ('<polygon label="brick" points="1,2;99,4;50,50"/>', "polygon-beyond"),
        ('<polygon label="brick" points="91,92;99,94;95,95"/>', "polygon-outside"),
        ('<polygon label="brick" points="5,5;25,25;5,25;25,5"/>', "polygon-crossing"),
        ('<mask label="brick" rle="2, 3" left="4" top="5" width="3" height="2"/>', "rle-counts"),
        ('<box label="brick" xtl="91" ytl="92" xbr="95" ybr="96"/>', "mask-empty"),
        ('<box label="brick" xtl="nan" ytl="92" xbr="95" ybr="96"/>', "box"),
        ('<polyline label="brick" points="1,2;3,4"/>', "shape-undrawn"),
        (BOX.replace("brick", "Brick "), "category-name-quirk"),
        (BOX, "overlap"),
    ],
)
def test_fault_of_an_xml_is_named(shapes, code, tmp_path):
    path = write_zip(tmp_path / "job.zip", xml_files(BOX + shapes))

    found = [fault for fault in faults_of(path) if fault.code == code]

    assert len(found) == 1 and found[0].file.endswith("annotations.xml")


@pytest.mark.parametrize("packed", [False, True])
def test_faults_of_images_are_named(packed, tmp_path):
    files = {**xml_files(BOX), "images/1.jpg": image_bytes()[:200]}
    path = write_zip(tmp_path / "job.zip", files) if packed else write_folder(tmp_path / "job", files)

    (found,) = faults_of(path)

    assert found.code == "image-broken" and found.file.endswith("images/1.jpg")
    assert codes_of(write_folder(tmp_path / "other", {**files, "images/1.jpg": image_bytes(width=9)})) == {"image-size"}


def test_faults_of_masks_are_named(tmp_path):
    other = red()
    other[9, 9] = 7
    files = mask_files(other, None, LABEL_MAP)

    assert codes_of(write_folder(tmp_path, files)) == {"objects-missing", "export-broken"}


def test_faults_of_coco_in_a_zip_are_those_of_a_folder(tmp_path):
    files = coco_files(annotation(bbox=[1, 1, 2, 2]), annotation(area=5000, segmentation=[SQUARE, [1, 2]]))
    folder, packed = write_folder(tmp_path / "a", files), write_zip(tmp_path / "b.zip", files)

    found = [sorted((fault.code, fault.message) for fault in faults_of(path)) for path in (folder, packed)]

    assert found[0] == found[1] and {code for code, _ in found[0]} >= {"box-stale", "id-duplicate", "polygon-points"}


def test_folder_of_all_kinds_is_checked_as_one_dataset(tmp_path):
    for name, files in kinds().items():
        write_folder(tmp_path / name, files)
        write_zip(tmp_path / f"{name}_2.zip", files)

    dataset = find_sources(str(tmp_path))

    assert len(dataset.sources) == 6 and dataset.to_be_merged
    assert codes_of(tmp_path) == {"path-collision", "id-shared"}


@pytest.mark.parametrize("name", ["../evil", "/evil"])
def test_zip_that_could_do_harm_is_named_beside_the_others(name, tmp_path):
    write_zip(tmp_path / "good.zip", coco_files(annotation(area=5000)))
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, "x")

    found = {fault.code: fault for fault in faults_of(tmp_path)}

    assert set(found) == {"export-broken", "area-stale"}
    assert "leads out" in found["export-broken"].message and found["export-broken"].file.endswith("bad.zip")


def test_xml_with_entities_is_named(tmp_path):
    bomb = b'<!DOCTYPE a [<!ENTITY b "ha">]><annotations><meta>&b;</meta></annotations>'

    (found,) = faults_of(write_folder(tmp_path, {**xml_files(BOX), "annotations.xml": bomb}))

    assert found.code == "export-broken" and "entities" in found.message


def test_command_shows_the_table_and_refuses_to_fix(tmp_path, capsys):
    path = write_zip(tmp_path / "job.zip", xml_files('<box label="brick" xtl="91" ytl="92" xbr="95" ybr="96"/>'))

    assert main(["check", str(path), "--workers", "1"]) == 1
    assert "mask-empty" in capsys.readouterr().out
    with pytest.raises(DatasetError, match="detr-d2 prepare"):
        main(["check", str(path), "--fix", str(tmp_path / "out"), "--workers", "1"])
    assert not (tmp_path / "out").exists()


def test_json_report_has_the_faults_of_an_xml(tmp_path):
    path = write_folder(tmp_path / "job", xml_files('<polyline label="brick" points="1,2;3,4"/>' + BOX))
    report = tmp_path / "faults.json"

    assert main(["check", str(path), "--json", str(report)]) == 0
    content: Any = json.loads(report.read_text())
    assert [fault["code"] for fault in content["faults"]] == ["shape-undrawn"]
