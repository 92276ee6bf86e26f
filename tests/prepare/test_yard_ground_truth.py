"""Labels with people's faults become the dataset that was meant: compared with the truth of the scenes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_d2.cli import main
from detr_d2.data import read_panoptic_png
from detr_d2.yard import STUFF, THINGS, write_yard_exports

IMAGES = 24
Shown = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports, and the dataset prepared of them."""
    folder = tmp_path_factory.mktemp("yards")
    write_yard_exports(folder / "exports", images=IMAGES)
    sources = ["--cvat", str(folder / "exports" / "cvat"), "--stuff", "masks", str(folder / "exports" / "stuff")]
    assert (
        main(
            [
                "prepare",
                *sources,
                "--overlap",
                "last",
                "--name",
                "true_yard",
                "--out",
                str(folder / "yard"),
                "--workers",
                "1",
            ]
        )
        == 0
    )
    return folder


def segments_by_image(json_file: Path, pngs: Path) -> Iterator[tuple[str, list[tuple[str, np.ndarray]]]]:
    """Each picture's name with its segments: class and mask."""
    content: dict[str, Any] = json.loads(json_file.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    for entry in content["annotations"]:
        ids = read_panoptic_png(str(pngs / entry["file_name"]))
        yield entry["file_name"], [(names[info["category_id"]], ids == info["id"]) for info in entry["segments_info"]]


def equal_pixels(folder: Path, classes: tuple[str, ...]) -> float:
    """Share of the pixels of true segments of these classes, and of prepared ones, that the two agree on."""
    gt = dict(
        segments_by_image(folder / "exports" / "ground_truth" / "panoptic.json", folder / "exports" / "ground_truth")
    )
    agreed = claimed = 0
    for split in ("train", "val"):
        for name, segments in segments_by_image(folder / "yard" / f"panoptic_{split}.json", folder / "yard/panoptic"):
            true = [(label, mask) for label, mask in gt.pop(name) if label in classes]
            found = [(label, mask) for label, mask in segments if label in classes]
            claimed += sum(int(mask.sum()) for _, mask in true + found)
            agreed += sum(
                2 * max(int((mask & other).sum()) for at, other in true if at == label) for label, mask in found
            )
    assert not gt, "pictures were lost"
    return agreed / claimed


def test_prepared_things_are_the_true_ones(folder: Path) -> None:
    assert equal_pixels(folder, THINGS) >= 0.995


def test_prepared_stuff_is_the_true_one(folder: Path) -> None:
    assert equal_pixels(folder, STUFF) >= 0.995


def test_prepared_yard_passes_the_check(folder: Path) -> None:
    assert main(["check", str(folder / "yard")]) == 0


def test_report_tells_of_the_faults(folder: Path) -> None:
    report = json.loads((folder / "yard" / "report.json").read_text())

    by_name = {entry["name"]: entry for entry in report["classes"]}
    assert by_name["brick_stack"]["dropped"] == {"mask-empty": 2}
    assert "Brick stack" in " ".join(by_name["brick_stack"]["matched_from"])
    assert sum("brush" in warning for warning in map(str, report["warnings"])) == 2
