"""detr-d2 browse: pages with a dataset's ground truth, and with what the model is given."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_d2.browse.command import choose_records, class_rows
from detr_d2.cli import main
from detr_d2.data import Category
from detr_d2.errors import DatasetError


def browse(folder: Path, out: Path, *words: str) -> dict[str, str]:
    """The pages written, by name."""
    assert main(["browse", str(folder), "--out", str(out), *words]) == 0
    return {path.stem: path.read_text(encoding="utf-8") for path in out.iterdir()}


def test_pages_show_each_dataset_with_ground_truth_and_counts(yard_folder: Path, tmp_path: Path) -> None:
    pages = browse(yard_folder, tmp_path / "out", "--limit", "2")

    assert sorted(pages) == ["yard_train", "yard_val"]
    page = pages["yard_train"]
    assert page.count('class="thumbnail"') == 2 and "2 of 6 images" in page
    assert page.count('data-name="ground truth"') == page.count('data-name="image"') == 2
    assert "as the model is given it" not in page and "https:" not in page and "http:" not in page
    counts = json.loads((yard_folder / "panoptic_train.json").read_text())
    ground = next(c["id"] for c in counts["categories"] if c["name"] == "ground")
    pixels = sum(s["area"] for a in counts["annotations"] for s in a["segments_info"] if s["category_id"] == ground)
    assert f'data-value="{pixels}"' in page


def test_augmented_images_are_those_of_the_config(yard_folder: Path, tmp_path: Path) -> None:
    words = ["--augmented", "--limit", "1", "--opts", "INPUT.RICAP.ENABLED", "True", "INPUT.RICAP.PROB", "1.0"]
    words += ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MASK_STRIDE", "4"]

    first, again = (browse(yard_folder, tmp_path / name, *words)["yard_val"] for name in "ab")

    assert first == again  # the seed decides
    views = re.findall(r'<img[^>]*data-name="as the model is given it, \d"', first)
    assert len(views) == len(set(views)) == 3


def test_images_of_a_class_can_be_asked_for(yard_folder: Path, tmp_path: Path) -> None:
    page = browse(yard_folder, tmp_path, "--class", "pipe")["yard_train"]

    shown = re.findall(r'data-classes="([^"]*)"', page)
    assert shown and all("pipe" in classes for classes in shown)


def test_unknown_class_is_refused_with_those_there_are(yard_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no class 'tube'; it has brick_stack, pipe"):
        browse(yard_folder, tmp_path, "--class", "tube")


@pytest.mark.parametrize("name", ["panoptic_val.json", "instances_val.json"])
def test_plain_json_is_found_with_its_images(yard_folder: Path, tmp_path: Path, name: str) -> None:
    assert main(["browse", str(yard_folder / name), "--limit", "1", "--out", str(tmp_path)]) == 0

    assert 'data-name="ground truth"' in (tmp_path / name).with_suffix(".html").read_text(encoding="utf-8")


def test_broken_image_is_named_on_the_page(yard_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(yard_folder, tmp_path / "yard<b>")
    content = json.loads((folder / "panoptic_val.json").read_text())
    broken = folder / "images" / content["images"][0]["file_name"]
    broken.write_bytes(broken.read_bytes()[:500])
    page_name = tmp_path / "out" / "panoptic_val.html"

    assert main(["browse", str(folder / "panoptic_val.json"), "--out", str(page_name.parent)]) == 0

    page = page_name.read_text(encoding="utf-8")
    assert "1 of the images can" in page and broken.name in page and "<b>/" not in page
    assert page.count('class="thumbnail"') == 2


def test_class_rows_count_crowds_apart() -> None:
    categories = [Category(5, "brick", True, (1, 2, 3)), Category(9, "sky", False, (4, 5, 6))]
    segments = [
        {"category_id": 0, "area": 7},
        {"category_id": 0, "area": 2, "iscrowd": 1},
        {"category_id": 1, "area": 9},
    ]

    rows = class_rows([{"segments_info": segments}, {"segments_info": segments[:1]}], categories)

    assert [(r["images"], r["segments"], r["crowds"], r["pixels"]) for r in rows] == [(2, 2, 1, 16), (1, 1, 0, 9)]
    without_areas: list[dict[str, Any]] = [{"annotations": [{"category_id": 0}]}]
    assert class_rows(without_areas, categories)[0]["pixels"] is None


def test_chosen_images_are_spread_evenly() -> None:
    records: list[dict[str, Any]] = [{"annotations": [{"category_id": i % 3}]} for i in range(30)]

    assert choose_records(records, 3) == [0, 14, 29]
    assert choose_records(records, 100, wanted=2) == list(range(2, 30, 3))
    assert choose_records(records, 5, wanted=7) == []


def test_ids_of_strided_masks_fill_the_image() -> None:
    from detr_d2.visualization.ground_truth import id_map

    masks = np.zeros((2, 2, 3), bool)
    masks[0, 0], masks[1, 1] = True, True

    assert id_map(masks, (7, 10)).tolist() == [[1] * 10] * 4 + [[2] * 10] * 3
    assert id_map(masks[:0], (7, 10)).max() == 0
