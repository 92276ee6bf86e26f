"""``--only-changed``: images whose labels a person touched, whatever the format in which they come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_d2.cli import main
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.labels.readers import read_exports
from detr_d2.labels.run_lengths import run_lengths
from detr_d2.prepare.selecting import only_changed
from tests.prepare.made_exports import HEIGHT, META, SQUARE, WIDTH, annotation, coco, image_bytes, write_folder

NAMES = ("1.jpg", "2.jpg", "3.jpg")


def listed(*names: str) -> list[dict[str, Any]]:
    """Entries of images."""
    sizes = {"width": WIDTH, "height": HEIGHT}
    return [{"id": number, "file_name": name, **sizes} for number, name in enumerate(names, 1)]


def labels(**changed: Any) -> list[dict[str, Any]]:
    """A square on each of three images; that of the second one is changed."""
    return [annotation(id=number, image_id=number, **(changed if number == 2 else {})) for number in (1, 2, 3)]


def write_base(folder: Path, *annotations: dict[str, Any]) -> Path:
    """What a model labelled: a JSON without images."""
    content = coco(*(annotations or labels()), images=listed(*NAMES))
    return write_folder(folder, {"annotations/instances_default.json": json.dumps(content).encode()})


def write_corrected(folder: Path, annotations: list[dict[str, Any]], names: tuple[str, ...] = NAMES) -> Path:
    """What comes back from CVAT."""
    files = {f"images/default/{name}": image_bytes(seed=number) for number, name in enumerate(names)}
    content = json.dumps(coco(*annotations, images=listed(*names))).encode()
    return write_folder(folder, {**files, "annotations/instances_default.json": content})


def left_of(corrected: Path, base: Path) -> tuple[list[str], tuple[int, int, int]]:
    """The images that are left, and how many were unchanged, changed, new."""
    found = only_changed(read_exports([corrected], "cvat"), base)
    names = [record.name for export in found.exports for record in export.images]
    return names, (found.unchanged, found.changed, found.new)


def square_runs() -> dict[str, Any]:
    """The pixels of the square, as CVAT's brush writes them."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[6:16, 5:15] = True
    return {"size": [HEIGHT, WIDTH], "counts": run_lengths(mask)}


@pytest.mark.parametrize(
    "changed",
    [
        {"segmentation": [[5.0, 6.0, 15.0, 6.0, 15.0, 17.0, 5.0, 17.0]]},
        {"category_id": 2},
        {"segmentation": [SQUARE, [20.0, 20.0, 30.0, 20.0, 30.0, 28.0]]},
    ],
)
def test_an_image_with_another_label_is_left(tmp_path: Path, changed: dict[str, Any]) -> None:
    two = {"categories": [{"id": 1, "name": "brick"}, {"id": 2, "name": "pipe"}]}
    base, corrected = write_base(tmp_path / "base"), write_corrected(tmp_path / "job", labels(**changed))
    file = corrected / "annotations/instances_default.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **two}))

    assert left_of(corrected, base) == (["2.jpg"], (2, 1, 0))


def test_an_image_that_lost_or_got_a_label_is_left(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    corrected = write_corrected(tmp_path / "job", [*labels()[:2], annotation(id=9, image_id=1)])

    assert left_of(corrected, base) == (["1.jpg", "3.jpg"], (1, 2, 0))


def test_ids_order_spelling_and_the_brush_change_nothing(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    brushed = {"segmentation": square_runs(), "iscrowd": 1}
    corrected = write_corrected(
        tmp_path / "job",
        [*(annotation(id=40 - n, image_id=n, **brushed) for n in (3, 2)), annotation(image_id=4)],
        ("1.jpg", *NAMES[1:], "4.jpg"),
    )
    file = corrected / "annotations/instances_default.json"
    file.write_text(file.read_text().replace('"brick"', '" Brick"'))

    assert left_of(corrected, base) == (["1.jpg", "4.jpg"], (2, 1, 1))


def test_the_same_labels_in_another_format_are_unchanged(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    points = "5,6;15,6;15,16;5,16"
    square = f'<polygon label="brick" points="{points}" z_order="3"></polygon>'
    moved = square.replace("5,16", "5,18")
    images = "".join(
        f'<image id="{n}" name="photos/{n}.jpg" width="{WIDTH}" height="{HEIGHT}">{moved if n == 3 else square}</image>'
        for n in (1, 2, 3)
    )
    files = {f"images/photos/{name}": image_bytes() for name in NAMES}
    xml = f"<annotations>{META}{images}</annotations>".encode()

    corrected = write_folder(tmp_path / "job", {**files, "annotations.xml": xml})

    assert left_of(corrected, base) == (["photos/3.jpg"], (2, 1, 0))


def test_an_image_that_could_be_several_of_base_counts_as_new(tmp_path: Path) -> None:
    write_base(tmp_path / "base" / "one")
    write_base(tmp_path / "base" / "two")
    corrected = write_corrected(tmp_path / "job", labels())

    assert left_of(corrected, tmp_path / "base") == (list(NAMES), (0, 0, 3))


def test_a_folder_of_predict_has_each_image_once_whatever_was_written(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_base(results / "cvat-xml")
    write_base(results / "cvat-coco")
    (results / "instances.json").write_text(json.dumps(coco(images=listed(*NAMES))))
    (results / "journal.jsonl").write_text("")
    corrected = write_corrected(tmp_path / "job", labels(segmentation=[[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]))

    assert left_of(corrected, results) == (["2.jpg"], (2, 1, 0))


def test_of_several_images_of_a_name_that_of_the_same_export_is_meant(tmp_path: Path) -> None:
    write_base(tmp_path / "base" / "one")
    write_base(tmp_path / "base" / "two", annotation(category_id=1))
    corrected = write_corrected(tmp_path / "one", labels(segmentation=[[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]))

    assert left_of(corrected, tmp_path / "base") == (["2.jpg"], (2, 1, 0))


def test_nothing_changed_and_no_base_are_refused(tmp_path: Path) -> None:
    base, corrected = write_base(tmp_path / "base"), write_corrected(tmp_path / "job", labels())
    exports = read_exports([corrected], "cvat")

    with pytest.raises(DatasetError, match="all 3 have its labels"):
        only_changed(exports, base)
    with pytest.raises(MissingFileError):
        only_changed(exports, tmp_path / "absent")


def test_the_command_prepares_what_was_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_base(tmp_path / "base")
    corrected = write_corrected(tmp_path / "job", labels(segmentation=[[5.0, 6.0, 25.0, 6.0, 25.0, 16.0, 5.0, 16.0]]))

    words = ["--cvat", str(corrected), "--only-changed", str(base), "--stuff", "misc", "--out", str(tmp_path / "made")]

    assert main(["prepare", *words]) == 0
    assert "2 images are as in BASE and left out; 1 changed, 0 new" in capsys.readouterr().out
    content = json.loads((tmp_path / "made" / "panoptic_train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["job/2.jpg"]
