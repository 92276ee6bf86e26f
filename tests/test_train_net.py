"""train_net.py as a user runs it: both stages, resuming, evaluating, and mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detr_d2.checkpoint import DetrCheckpointer

from detectron2.modeling import build_model


@pytest.fixture
def train_net(project_folder, tiny_config, tmp_path):
    """Runs train_net.py on a saved tiny config with overrides; returns the finished process."""

    def run(*arguments: str, config: tuple = (), name: str = "config") -> subprocess.CompletedProcess[str]:
        file = tmp_path / f"{name}.yaml"
        file.write_text(tiny_config(*config).dump())
        command = [sys.executable, "-W", "ignore", str(project_folder / "train_net.py"), "--config-file", str(file)]
        return subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(project_folder), "OMP_NUM_THREADS": "1"},
        )

    return run


def _metrics(folder: Path) -> set[str]:
    """The names of everything that was written down while training."""
    return {name for line in (folder / "metrics.json").read_text().splitlines() for name in json.loads(line)}


STAGE2 = ("MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", True)


def test_both_stages_train_save_and_evaluate(train_net, tmp_path):
    first = train_net("OUTPUT_DIR", str(tmp_path / "stage1"), name="stage1")
    assert first.returncode == 0, first.stderr
    weights = str(tmp_path / "stage1" / "model_final.pth")
    second = train_net("OUTPUT_DIR", str(tmp_path / "stage2"), "MODEL.WEIGHTS", weights, config=STAGE2, name="stage2")
    assert second.returncode == 0, second.stderr

    for stage in ("stage1", "stage2"):
        files = {path.name for path in (tmp_path / stage).iterdir()}
        assert {"config.yaml", "metrics.json", "log.txt", "model_final.pth", "last_checkpoint"} <= files
    logged = _metrics(tmp_path / "stage2")
    assert {"loss_mask", "loss_dice", "unweighted/mask", "panoptic_seg/PQ", "panoptic_seg/PQ_th"} <= logged
    before, after = (
        torch.load(tmp_path / s / "model_final.pth", weights_only=True)["model"] for s in ("stage1", "stage2")
    )
    assert all(torch.equal(value, after[name]) for name, value in before.items())

    evaluated = train_net(
        "--eval-only", "MODEL.WEIGHTS", str(tmp_path / "stage2" / "model_final.pth"), config=STAGE2, name="eval"
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert "Things" in evaluated.stdout and "Stuff" in evaluated.stdout and "PQ" in evaluated.stdout


def test_resuming_goes_on_where_training_stopped(train_net, tmp_path):
    folder = tmp_path / "output"
    assert train_net("DATASETS.TEST", "()").returncode == 0

    resumed = train_net("--resume", "SOLVER.MAX_ITER", "4", "DATASETS.TEST", "()")

    assert resumed.returncode == 0, resumed.stderr
    assert "Starting training from iteration 2" in resumed.stdout
    content = torch.load(folder / "model_final.pth", weights_only=True)
    assert content["iteration"] == 3
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["DATASETS.TRAIN", "('yard_trian',)"], "yard_train"),
        (["MODEL.DETR.NUM_QUERY", "3"], "NUM_QUERIES"),
        (["MODEL.WEIGHTS", "no/such.pth"], "no/such.pth"),
        pytest.param(
            ["MODEL.DEVICE", "cuda"],
            "MODEL.DEVICE",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_a_mistake_is_one_clear_message(train_net, tmp_path, arguments, message):
    result = train_net(*arguments)

    assert result.returncode != 0
    assert message in result.stderr and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 5
    assert "no/such.pth" in arguments or not (tmp_path / "output").exists()


def test_a_mistake_in_several_processes_is_one_clear_message(train_net):
    result = train_net("--num-gpus", "2", "--dist-url", "auto", "MODEL.DETR.NUM_QUERY", "3")

    assert result.returncode == 2
    assert result.stderr.count("NUM_QUERIES") == 1 and "Traceback" not in result.stderr


def test_weights_of_other_classes_are_one_clear_message(train_net, tiny_config, tmp_path):
    model = build_model(tiny_config())
    DetrCheckpointer(model, str(tmp_path)).save("other")
    content = torch.load(tmp_path / "other.pth", weights_only=True)
    content["detr_d2"]["categories"][0]["name"] = "bathtub"
    torch.save(content, tmp_path / "other.pth")

    result = train_net("--eval-only", "MODEL.WEIGHTS", str(tmp_path / "other.pth"))

    assert result.returncode != 0 and "bathtub" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_real_coco_photos_train_resume_and_evaluate(train_net, shared_data, tmp_path):
    coco = shared_data / "coco128_panoptic"
    if not coco.is_dir():
        pytest.skip(f"no real data: {coco} isn't a folder")
    entries = [
        {
            "name": f"coco128_{split}",
            "images": str(coco / split / "images"),
            "panoptic_json": str(coco / split / "panoptic.json"),
            "panoptic_root": str(coco / split / "panoptic"),
        }
        for split in ("train", "val")
    ]
    data = ("DATASETS.REGISTER", entries, "DATASETS.TRAIN", "('coco128_train',)", "DATASETS.TEST", "('coco128_val',)")
    joint = ("MODEL.DETR.MASK_ON", True, "MODEL.DETR.NUM_QUERIES", 30)

    first = train_net("DATASETS.TEST", "()", config=(*data, *joint))
    assert first.returncode == 0, first.stderr
    resumed = train_net("--resume", "SOLVER.MAX_ITER", "3", config=(*data, *joint))

    assert resumed.returncode == 0, resumed.stderr
    assert "panoptic_seg/PQ" in _metrics(tmp_path / "output")
