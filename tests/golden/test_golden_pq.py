"""The numbers of ``detr-d2 pq`` for predictions that are wrong in known ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_d2.cli import main
from tests.golden.store import compare


def write_predictions(ground_truth: Path, masks: Path, folder: Path) -> None:
    """The ground truth as a poor model would have it: moved, merged, mistaken, with things left out."""
    content = json.loads(ground_truth.read_text())
    class_ids = [category["id"] for category in content["categories"]]
    random = np.random.default_rng(5)
    (folder / "masks").mkdir(parents=True)
    annotations = []
    for annotation in content["annotations"]:
        with Image.open(masks / annotation["file_name"]) as image:
            colors = np.roll(np.asarray(image.convert("RGB")), int(random.integers(0, 4)), axis=1).copy()
        ids = colors.astype(np.int64) @ np.array([1, 256, 65536])
        segments = []
        for segment in annotation["segments_info"]:
            fate = random.random()
            if fate < 0.15 or not (ids == segment["id"]).any():
                colors[ids == segment["id"]] = 0
                continue
            category = segment["category_id"] if fate < 0.85 else class_ids[int(random.integers(len(class_ids)))]
            segments.append({"id": segment["id"], "category_id": category})
        Image.fromarray(colors).save(folder / "masks" / annotation["file_name"])
        annotations.append({**annotation, "segments_info": segments})
    (folder / "predictions.json").write_text(json.dumps({"annotations": annotations}))


def quality(ground_truth: Path, masks: Path, folder: Path) -> Any:
    """The JSON of ``detr-d2 pq``, its intervals included, but for paths."""
    write_predictions(ground_truth, masks, folder)
    files = ["--gt", ground_truth, "--gt-folder", masks, "--pred", folder / "predictions.json"]
    words = [*files, "--pred-folder", folder / "masks", "--json", folder / "pq.json", "--bootstrap", "50"]
    assert main(["pq", *map(str, words)]) == 0
    content = json.loads((folder / "pq.json").read_text())
    return {key: value for key, value in content.items() if key not in ("ground_truth", "predictions")}


def test_quality_on_the_yard(yard: Path, tmp_path: Path) -> None:
    compare("pq", "yard", quality(yard / "yard" / "panoptic_val.json", yard / "yard" / "panoptic", tmp_path))


@pytest.mark.parametrize("name", ["train", "val"])
def test_quality_on_real_labels(name: str, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "coco128_panoptic" / name

    compare("pq", f"coco128-{name}", quality(folder / "panoptic.json", folder / "panoptic", tmp_path))
