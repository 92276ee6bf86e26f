"""The loop: a model labels, people correct in CVAT, the corrected images are a dataset, and the next model trains."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_d2 import Predictor, cli
from detr_d2.data import read_panoptic_png
from tests.conftest import TINY_MODEL
from tests.prediction.conftest import write_checkpoint

RIGHT = "cone"


def corrected(xml: str, images: int) -> tuple[str, list[str]]:
    """What a person makes of an export: in some images one label gets another class."""
    parts = xml.split("<image ")
    names = []
    for number, part in enumerate(parts[1 : images + 1], start=1):
        parts[number] = re.sub(r'label="[^"]+"', f'label="{RIGHT}"', part, count=1)
        names.append(part.split('name="')[1].split('"')[0])
    return "<image ".join(parts), names


def maps_of(folder: Path) -> dict[str, np.ndarray]:
    """Of each image of a dataset a map of category names."""
    maps = {}
    for split in ("train", "val"):
        content = json.loads((folder / f"panoptic_{split}.json").read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        files = {image["id"]: image["file_name"] for image in content["images"]}
        for annotation in content["annotations"]:
            ids = read_panoptic_png(next((folder / "panoptic").rglob(Path(annotation["file_name"]).name)))
            named = np.full(ids.shape, "", dtype=object)
            for segment in annotation["segments_info"]:
                named[ids == segment["id"]] = names[segment["category_id"]]
            maps[Path(files[annotation["image_id"]]).stem] = named
    return maps


@pytest.mark.slow
def test_corrected_labels_of_a_model_are_a_dataset_that_trains(
    yard_folder: Path, project_folder: Path, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", yard_folder, "panoptic", "MODEL.DETR.MASK_ON", True)
    kind, photos, predicted = "cvat-xml", yard_folder / "images", tmp_path / "predicted"
    words = ["predict", str(checkpoint), str(photos), "--out", str(predicted), "--write", kind, "--device", "cpu"]
    assert cli.main(words) == 0
    export = tmp_path / "corrected"
    shutil.copytree(photos, export / "images")
    (file,) = (predicted / kind).rglob("*.xml")
    text, names = corrected(file.read_text(), images=4)
    (export / "annotations.xml").write_text(text)

    base, out = str(predicted / kind), tmp_path / "prepared"
    rules = ["--only-changed", base, "--out", str(out), "--val", "0.25", "--min-area", "0", "--workers", "1"]
    assert cli.main(["prepare", "--cvat", str(export), *rules]) == 0

    maps, predictor = maps_of(out), Predictor(checkpoint, device="cpu")
    assert len(maps) == len(names) == 4
    for name in names:
        prediction = predictor(photos / name)
        found = next(one for stem, one in maps.items() if stem.endswith(Path(name).stem))
        wanted = expected_map(prediction, text.split(f'name="{name}"')[1].split("</image>")[0])
        np.testing.assert_array_equal(found, wanted)
    trained = train(project_folder, out, checkpoint, tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "output" / "model_final.pth").is_file()


def expected_map(prediction: Any, shapes: str) -> np.ndarray:
    """The prediction's map of names, with the first label's class as the person has it."""
    order = sorted(prediction.segments, key=lambda segment: bool(segment["isthing"]))
    named = np.full(prediction.size, "", dtype=object)
    for segment, label in zip(order, re.findall(r'label="([^"]+)"', shapes), strict=True):
        named[prediction.mask(segment)] = label
    return named


def train(project_folder: Path, dataset: Path, checkpoint: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Two iterations of the next training, from the model that labelled."""
    opts = [*TINY_MODEL, "DATASETS.REGISTER", [str(dataset / "register.yaml")], "MODEL.DEVICE", "cpu"]
    opts += ["DATASETS.TRAIN", ("prepared_train",), "DATASETS.TEST", ("prepared_val",), "MODEL.DETR.MASK_ON", True]
    opts += ["MODEL.WEIGHTS", str(checkpoint), "OUTPUT_DIR", str(folder / "output"), "DATALOADER.NUM_WORKERS", 0]
    config = project_folder / "configs" / "quickstart" / "detr_yard.yaml"
    command = [sys.executable, "-W", "ignore", str(project_folder / "train_net.py"), "--config-file", str(config)]
    environment = os.environ | {"PYTHONPATH": str(project_folder), "OMP_NUM_THREADS": "1"}
    words = [*command, *map(str, opts)]
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment)
