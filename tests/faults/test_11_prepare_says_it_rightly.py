"""What ``prepare`` says of itself is so: its help, its lists, its warnings."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2.checkpoint.names import PUBLISHED_WEIGHTS
from detr_d2.cli import main
from detr_d2.data import coco_categories, read_panoptic_png
from tests.faults.preparing import annotation, box_ring, prepare, read_json, write_export, write_image

ROOT = Path(__file__).resolve().parent.parent.parent


def help_text(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    return capsys.readouterr().out


def test_overlaps_that_are_errors_are_all_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heap = [annotation(number, 1, [box_ring(4, 4, 20 + number, 24)]) for number in range(1, 8)]
    pair = [annotation(number, 3, [box_ring(4, 4, 20, 20 + number)]) for number in (11, 12)]
    export = write_export(tmp_path / "site", annotations=[*heap, *pair])

    assert prepare("--cvat", export, "--overlap", "error", "--out", tmp_path / "made") == 2

    lines = [line for line in capsys.readouterr().err.splitlines() if "share" in line]
    assert len(lines) == 7 * 6 // 2 + 1
    assert sum("site/0.jpg" in line for line in lines) == 21
    assert "  site/2.jpg: labels 11 and 12 share 432 pixels" in lines


@pytest.mark.parametrize("margin", [1, 3])
def test_the_margin_is_what_help_and_docs_say(tmp_path: Path, capsys: pytest.CaptureFixture[str], margin: int) -> None:
    """Void is what is at most so many pixels away from a label."""
    export = write_export(tmp_path / "site", 1, annotations=[annotation(1, 1, [box_ring(20, 10, 30, 20)])])

    assert prepare("--cvat", export, "--stuff", "misc", "--margin", str(margin), "--out", tmp_path / "made") == 0

    ids = read_panoptic_png(str(tmp_path / "made" / "panoptic" / "site" / "0.png"))
    assert (ids[15, 30 : 30 + margin] == 0).all() and ids[15, 30 + margin] != 0
    documented = (ROOT / "docs" / "prepare.md").read_text(encoding="utf-8")
    assert "at most `--margin` pixels" in documented and "nearer than `--margin`" not in documented
    capsys.readouterr()
    assert re.search(r"at\s+most\s+so\s+many\s+pixels", help_text(capsys))


def test_examples_name_weights_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    named = re.findall(r"--stuff model (\S+)", help_text(capsys))

    assert named and set(named) <= set(PUBLISHED_WEIGHTS)


def write_stuff(folder: Path, names: list[str]) -> Path:
    """Masks with all of the classes, for images 0 to 2."""
    folder.mkdir()
    lines = [f"{number}: {name}\n" for number, name in enumerate(names, 1)]
    (folder / "classes.yaml").write_text("".join(lines))
    strip = np.repeat(np.arange(1, len(names) + 1, dtype=np.uint8), -(-48 // len(names)))[None, :48]
    for number in range(3):
        Image.fromarray(np.repeat(strip, 40, axis=0)).save(folder / f"{number}.png")
    return folder


def test_classes_of_cocos_list_are_never_misspellings_of_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [category.name for category in coco_categories()]
    categories = [{"id": number, "name": name} for number, name in enumerate([*names, "brick wal", "brick wall"], 1)]
    used = range(1, len(categories) + 1)
    boxes = [box_ring(n % 11 * 4, n // 11 * 3, n % 11 * 4 + 4, n // 11 * 3 + 3) for n in used]
    objects = [annotation(n, 1 + n % 3, [box], category_id=n) for n, box in zip(used, boxes)]
    export = write_export(tmp_path / "site", categories=categories, annotations=objects)

    assert prepare("--cvat", export, "--min-area", "0", "--out", tmp_path / "made") == 0

    alike = re.findall(r"the classes '(.*)' and '(.*)' are alike", capsys.readouterr().err)
    assert alike == [("brick wal", "brick wall")]


def test_stuff_of_cocos_list_is_not_called_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = write_stuff(tmp_path / "masks", ["floor-other-merged", "food-other-merged", "wall-other-merged"])
    words = ("--stuff", "masks", masks, "--stuff-classes", "coco", "--out", tmp_path / "made")

    assert prepare("--cvat", write_export(tmp_path / "site"), *words) == 0

    assert "are alike" not in capsys.readouterr().err
    kept = {one["name"] for one in read_json(tmp_path / "made" / "report.json")["classes"] if one["kept"]}
    assert {"floor-other-merged", "food-other-merged"} <= kept


def write_alike(folder: Path, groups: list[int]) -> Path:
    """An export with groups of images that look the same."""
    export = write_export(folder, sum(groups))
    number = 0
    for seed, count in enumerate(groups):
        for _ in range(count):
            write_image(export / "images" / f"{number}.jpg", 7000 + seed)
            number += 1
    return export


def test_another_share_of_validation_is_said_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = write_alike(tmp_path / "site", [17, 17, 16])

    assert prepare("--cvat", export, "--val", "0.2", "--out", tmp_path / "made") == 0

    images = read_json(tmp_path / "made" / "report.json")["images"]
    assert (images["train"], images["val"]) == (34, 16)
    warning = next(line for line in capsys.readouterr().err.splitlines() if "--val asks for 20%" in line)
    assert "16 of 50 images, 32%" in warning and "look alike" in warning and "up to 17" in warning


@pytest.mark.parametrize("seed", range(4))
def test_images_that_look_alike_take_no_more_of_validation_than_they_must(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    export = write_alike(tmp_path / "site", [17, *[1] * 33])

    assert prepare("--cvat", export, "--val", "0.2", "--seed", str(seed), "--out", tmp_path / "made") == 0

    images = read_json(tmp_path / "made" / "report.json")["images"]
    assert (images["train"], images["val"]) == (40, 10)
    assert "--val asks" not in capsys.readouterr().err


def test_a_share_that_few_images_cannot_have_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("--cvat", write_export(tmp_path / "site", 3), "--val", "0.1", "--out", tmp_path / "made") == 0

    assert "1 of 3 images, 33%, where --val asks for 10%: there are only 3" in capsys.readouterr().err
