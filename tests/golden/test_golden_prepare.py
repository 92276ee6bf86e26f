"""What ``detr-d2 prepare`` makes of real samples and of the yard's exports, under each choice."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from detr_d2.cli import main
from detr_d2.errors import UserError
from tests.golden.store import compare, digest, file_digest

OVERLAPS = ("error", "small-on-top", "z-order", "file-order", "last")
CROWDS = ("auto", "keep", "clear")
STUFF = {
    "none": [],
    "misc": ["--stuff", "misc"],
    "misc-margin": ["--stuff", "misc", "--margin", "3"],
    "masks": ["--stuff", "masks", "STUFF"],
    "function": ["--stuff", "model", "golden_labels:label"],
    "function-coco": ["--stuff", "model", "golden_labels:label", "--stuff-classes", "coco", "--stuff-things", "void"],
}
FUNCTION = """
import numpy as np

def label(pixels):
    height, width = pixels.shape[:2]
    ids = np.ones((height, width), np.int64)
    ids[height // 2 :] = 2
    ids[: height // 4, width // 2 :] = 3
    ids[:, :2] = 4
    return ids, [
        {"id": 1, "name": "sky-other-merged", "score": 0.99},
        {"id": 2, "name": "gravel", "score": 0.9},
        {"id": 3, "category_id": 3, "score": 0.95},
        {"id": 4, "name": "wall-brick", "score": 0.2},
    ]
"""


@pytest.fixture(autouse=True)
def _function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module ``golden_labels`` in the working directory."""
    (tmp_path / "golden_labels.py").write_text(FUNCTION)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("golden_labels", None)


def prepared(arguments: list[str], out: Path, root: Path) -> Any:
    """Digests of the PNGs, the JSONs, the images and the notes of a prepared dataset."""
    try:
        assert main(["prepare", *arguments, "--out", str(out), "--workers", "1"]) == 0
    except UserError as error:
        assert not out.exists()
        return {"refused": type(error).__name__}
    report = json.loads((out / "report.json").read_text())
    files = sorted(path for path in out.rglob("*") if path.suffix in (".png", ".jpg", ".json", ".yaml"))
    digests = {str(path.relative_to(out)): file_digest(path, str(root)) for path in files if path.name != "report.json"}
    images = {name: value for name, value in digests.items() if "/" in name}
    return {
        "images": {"number": len(images), "digest": digest(images)},
        "files": {name: value for name, value in digests.items() if "/" not in name},
        "notes": {code: note["count"] for code, note in report["notes"].items()},
    }


@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_yard_with_each_overlap_and_crowd(overlap: str, crowd: str, yard: Path, tmp_path: Path) -> None:
    words = ["--cvat", str(yard / "exports" / "cvat"), "--overlap", overlap, "--crowd", crowd]

    compare("prepare_yard", f"{overlap} {crowd}", prepared(words, tmp_path / "out", yard))


@pytest.mark.parametrize("stuff", STUFF)
def test_yard_with_each_stuff(stuff: str, yard: Path, tmp_path: Path) -> None:
    masks = str(yard / "exports" / "stuff")
    words = ["--cvat", str(yard / "exports" / "cvat"), *(masks if word == "STUFF" else word for word in STUFF[stuff])]

    compare("prepare_yard", f"stuff {stuff}", prepared(words, tmp_path / "out", yard))


@pytest.mark.parametrize("pictures", ["--jpeg", "--link"])
def test_yard_with_each_way_of_images(pictures: str, yard: Path, tmp_path: Path) -> None:
    words = ["--cvat", str(yard / "exports" / "cvat"), pictures]

    compare("prepare_yard", pictures, prepared(words, tmp_path / "out", yard))


@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_cvat_samples_with_each_overlap_and_crowd(overlap: str, crowd: str, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "construction_sample" / "cvat"
    words = ["--cvat", str(source), "--overlap", overlap, "--crowd", crowd, "--stuff", "misc"]

    compare("prepare_samples", f"cvat {overlap} {crowd}", prepared(words, tmp_path / "out", shared_data))


@pytest.mark.parametrize("stuff", [name for name in STUFF if name != "masks"])
def test_cvat_samples_with_each_stuff(stuff: str, shared_data: Path, tmp_path: Path) -> None:
    words = ["--cvat", str(shared_data / "construction_sample" / "cvat"), "--categories", "construction"]

    compare("prepare_samples", f"cvat stuff {stuff}", prepared([*words, *STUFF[stuff]], tmp_path / "out", shared_data))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("coco-panoptic", ["--coco", "coco128_panoptic/val", "--coco-things", "keep"]),
        ("coco-sample", ["--coco", "coco_sample/panoptic.json"]),
        ("coco-instances", ["--coco", "tiny_coco_things/instances.json", "--coco-things", "keep"]),
        ("coco-instances-keep", ["--coco", "tiny_coco_things/instances.json", "--crowd", "keep", "--stuff", "misc"]),
        (
            "cvat-and-coco",
            ["--cvat", "construction_sample/cvat", "--coco", "coco128_panoptic/val", "--coco-images", "10"],
        ),
    ],
)
def test_coco_samples(name: str, arguments: list[str], shared_data: Path, tmp_path: Path) -> None:
    words = [str(shared_data / word) if "/" in word else word for word in arguments]

    compare("prepare_samples", name, prepared(words, tmp_path / "out", shared_data))
