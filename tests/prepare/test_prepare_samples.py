"""The whole way, as a user goes it: exports, COCO and stuff to a dataset that passes its check and can be trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from detr_d2 import cli
from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.data import read_panoptic_png
from detr_d2.errors import ConfigError, run_command
from detr_d2.yard import write_yard_exports

from detectron2.modeling import build_model

SPLITS = ("train", "val")
COCO = ("DATASETS.TRAIN", "()", "DATASETS.TEST", "('coco_2017_val_panoptic_detr',)")
SMALL = ("MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.RES5_DILATION", 1)


@pytest.fixture(scope="module")
def yard_exports(tmp_path_factory) -> Path:
    """What people exported of eight made-up scenes, stuff masks and the truth."""
    return write_yard_exports(tmp_path_factory.mktemp("exports") / "yard", images=8)


def _prepare(out: Path, *arguments: object) -> dict:
    words = ["prepare", "--out", str(out), "--workers", "1", *map(str, arguments)]
    assert cli.main(words) == 0
    assert cli.main(["check", str(out / "register.yaml"), "--workers", "1"]) == 0
    return {split: json.loads((out / f"panoptic_{split}.json").read_text()) for split in SPLITS}


def _segments(contents: dict) -> list[dict]:
    return [
        segment for c in contents.values() for annotation in c["annotations"] for segment in annotation["segments_info"]
    ]


def _names(contents: dict) -> dict[int, str]:
    return {category["id"]: category["name"] for category in contents["train"]["categories"]}


def _class_map(folder: Path, annotation: dict, names: dict[int, str]) -> np.ndarray:
    """The class's name of each pixel."""
    ids = read_panoptic_png(str(folder / annotation["file_name"]))
    values, inverse = np.unique(ids, return_inverse=True)
    of_id = {segment["id"]: names[segment["category_id"]] for segment in annotation["segments_info"]}
    return np.array([of_id.get(int(value), "") for value in values])[inverse.reshape(ids.shape)]


def test_yard_exports_with_masks_become_the_ground_truth(yard_exports, tmp_path):
    contents = _prepare(
        tmp_path / "samples_masks",
        "--cvat",
        yard_exports / "cvat",
        "--stuff",
        "masks",
        yard_exports / "stuff",
        "--overlap",
        "last",
    )

    gt = json.loads((yard_exports / "ground_truth" / "panoptic.json").read_text())
    true_names = {category["id"]: category["name"] for category in gt["categories"]}
    expected = {
        annotation["file_name"]: _class_map(yard_exports / "ground_truth", annotation, true_names)
        for annotation in gt["annotations"]
    }
    names, right, total = _names(contents), 0, 0
    for content in contents.values():
        for annotation in content["annotations"]:
            found = _class_map(tmp_path / "samples_masks" / "panoptic", annotation, names)
            right += int((found == expected[annotation["file_name"]]).sum())
            total += found.size
    assert len(expected) == 8 and right >= 0.995 * total
    assert Counter(segment["source"] for segment in _segments(contents)).keys() == {"human", "masks"}


def test_a_model_labels_what_people_didnt(yard_exports, tiny_config, tmp_path):
    model = build_model(tiny_config(*SMALL, "MODEL.DETR.MASK_ON", True, *COCO))
    DetrCheckpointer(model, str(tmp_path)).save("coco")
    arguments = ("--cvat", yard_exports / "cvat", "--stuff", "model", tmp_path / "coco.pth", "--stuff-score", 0)
    arguments += ("--cache", tmp_path / "answers", "--stuff-opts", "MODEL.DEVICE", "cpu")

    contents = _prepare(tmp_path / "samples_model", *arguments)

    of_model = [segment for segment in _segments(contents) if segment["source"] == "model"]
    things = {
        category["id"] for content in contents.values() for category in content["categories"] if category["isthing"]
    }
    assert of_model and all(0 < segment["score"] < 1 for segment in of_model)
    assert all(segment["category_id"] not in things for segment in of_model)
    assert len(list((tmp_path / "answers").rglob("*.png"))) == 8
    page = (tmp_path / "samples_model" / "report.html").read_text(encoding="utf-8")
    assert "model</span>" in page or "model " in page


def test_real_samples_with_coco_mixed_in_become_one_dataset(shared_data, tmp_path):
    contents = _prepare(
        *(tmp_path / "samples_mixed", "--cvat", shared_data / "construction_sample" / "cvat"),
        *("--coco", shared_data / "coco128_panoptic" / "val", "--coco-images", 5),
        *("--stuff", "misc", "--categories", "construction"),
    )

    sources = Counter(segment["source"] for segment in _segments(contents))
    names = _names(contents)
    of_coco = {names[segment["category_id"]] for segment in _segments(contents) if segment["source"] == "coco"}
    assert sum(len(content["images"]) for content in contents.values()) == 11
    assert sources["human"] == 8 and sources["rest"] == 6 and sources["coco"] > 10
    assert len(names) == 64 and "misc" in of_coco and of_coco <= set(list(names.values())[:16])


def test_coco_keeps_things_and_stuff_if_asked_to(shared_data, tmp_path):
    contents = _prepare(
        *(tmp_path / "samples_coco", "--coco", shared_data / "coco128_panoptic" / "val", "--coco-images", 3),
        *("--coco-things", "keep", "--stuff-classes", "coco", "--categories", "coco"),
    )

    assert len(contents["train"]["categories"]) == 133
    assert {segment["source"] for segment in _segments(contents)} == {"coco"}


def test_coco_images_want_a_folder(tmp_path):
    words = ["prepare", "--cvat", str(tmp_path), "--coco-images", "3", "--out", str(tmp_path / "out")]

    with pytest.raises(ConfigError, match="name their folder by --coco"):
        cli.main(words)


@pytest.mark.slow
def test_real_samples_train_in_both_stages_and_are_measured(shared_data, tiny_config, project_folder, tmp_path):
    out = tmp_path / "samples"
    _prepare(out, "--cvat", shared_data / "construction_sample" / "cvat", "--stuff", "misc")
    sizes = (
        "INPUT.MIN_SIZE_TRAIN",
        "(96,)",
        "INPUT.MAX_SIZE_TRAIN",
        128,
        "INPUT.MIN_SIZE_TEST",
        96,
        "INPUT.MAX_SIZE_TEST",
        128,
    )
    data = (
        "DATASETS.TRAIN",
        "('samples_train',)",
        "DATASETS.TEST",
        "('samples_val',)",
        "DATASETS.REGISTER",
        f"['{out}/register.yaml']",
    )
    masks = ("MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", True)

    for stage, config in (
        ("stage1", ()),
        ("stage2", (*masks, "MODEL.WEIGHTS", str(tmp_path / "stage1/model_final.pth"))),
    ):
        file = tmp_path / f"{stage}.yaml"
        file.write_text(tiny_config(*sizes, *data, *config, "OUTPUT_DIR", str(tmp_path / stage)).dump())
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(project_folder / "train_net.py"), "--config-file", str(file)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(project_folder), "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr

    logged = {
        name for line in (tmp_path / "stage2" / "metrics.json").read_text().splitlines() for name in json.loads(line)
    }
    assert {"panoptic_seg/PQ", "panoptic_seg/PQ_st", "loss_mask"} <= logged


INTERRUPTED = """
import pathlib
import numpy as np
def label(pixels):
    calls = pathlib.Path("calls.txt")
    count = int(calls.read_text()) if calls.exists() else 0
    calls.write_text(str(count + 1))
    if count == 3:
        raise KeyboardInterrupt
    return np.ones(pixels.shape[:2], int), [{"id": 1, "name": "gravel", "score": 0.9}]
"""


def test_an_interrupted_model_goes_on_with_what_it_hasnt_seen(yard_exports, tmp_path, monkeypatch):
    (tmp_path / "interrupted_model.py").write_text(INTERRUPTED)
    monkeypatch.chdir(tmp_path)
    words = ["prepare", "--cvat", str(yard_exports / "cvat"), "--stuff", "model", "interrupted_model:label"]
    words += ["--out", "samples_interrupted", "--workers", "1"]

    assert run_command(lambda: cli.main(words)) == 130
    assert not (tmp_path / "samples_interrupted").exists()
    assert cli.main(words) == 0

    assert (tmp_path / "calls.txt").read_text() == "9"  # eight pictures, one of them twice
    contents = {"train": json.loads((tmp_path / "samples_interrupted" / "panoptic_train.json").read_text())}
    assert "model" in {segment["source"] for segment in _segments(contents)}


def test_stuff_that_the_map_of_classes_makes_nothing_of_is_void(yard_exports, tmp_path):
    (tmp_path / "map.yaml").write_text("sky: null\nplant: void\n")
    words = ("--cvat", yard_exports / "cvat", "--stuff", "masks", yard_exports / "stuff")

    contents = _prepare(tmp_path / "samples_mapped", *words, "--classes", tmp_path / "map.yaml")

    shown = {
        _names(contents)[segment["category_id"]] for segment in _segments(contents) if segment["source"] == "masks"
    }
    assert shown == {"ground", "building"}
