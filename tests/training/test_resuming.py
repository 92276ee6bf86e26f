"""A run that was cut off and goes on ends as one that never was: its last checkpoints are equal to the last bit."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_d2.data import build_train_loader, register_from_config
from tests.training.conftest import SIX_ITERATIONS
from tests.training.cutting import Cut, differences

from detectron2.config import CfgNode

STAGES: dict[str, list[object]] = {
    "boxes": ["MODEL.DETR.MASK_ON", False],
    "masks": ["MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", True, "MODEL.DETR.MASK_POINTS", 50],
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stage", list(STAGES))
def test_a_run_that_was_cut_off_ends_as_a_whole_one(train: Callable[..., Any], stage: str, workers: int) -> None:
    options = (*STAGES[stage], "DATALOADER.NUM_WORKERS", workers)

    whole, resumed = train("whole", *options), train("resumed", *options, cuts=[Cut(3), Cut(4)])

    assert differences(whole, resumed) == []
    assert len(whole["trainer"]["_trainer"]["optimizer"]["state"]) > 10 and whole["iteration"] == 5


TWO_PROCESSES = """
import sys
from pathlib import Path

import torch

import detr_d2
from detr_d2.data import register_from_config
from detr_d2.training.processes import Team, run_in_team
from tests.modules import load_module
from tests.training.cutting import Cut, PowerCut


def work(folder, project):
    make = load_module(Path(project, "train_net.py")).Trainer
    for name, cuts in (("whole", ()), ("resumed", (3,))):
        cfg = detr_d2.load_config(str(Path(folder, name + ".yaml")))
        register_from_config(cfg)
        torch.manual_seed(0)
        for cut in (*cuts, None):
            trainer = make(cfg)
            trainer.resume_or_load(resume=True)
            if cut is None:
                trainer.train()
                continue
            trainer.register_hooks([Cut(cut)])
            trainer._hooks.insert(0, trainer._hooks.pop())
            try:
                trainer.train()
            except PowerCut:
                torch.seed()


if __name__ == "__main__":
    run_in_team(Team(2, 2, 0, "auto"), False, work, sys.argv[1:])
"""


@pytest.mark.slow
def test_two_processes_that_were_cut_off_end_as_a_whole_run_with_its_averaged_weights(
    tiny_config: Callable[..., CfgNode], tmp_path: Path, project_folder: Path
) -> None:
    options = (*SIX_ITERATIONS, *STAGES["masks"], "MODEL.DETR.FREEZE_DETECTOR", False, "MODEL.DEVICE", "cpu")
    options += ("MODEL_EMA.ENABLED", True, "MODEL_EMA.DECAY", 0.9, "MODEL_EMA.TAU", 2.0)
    for name in ("whole", "resumed"):
        cfg = tiny_config(*options, "OUTPUT_DIR", str(tmp_path / name), "SOLVER.IMS_PER_BATCH", 2)
        (tmp_path / f"{name}.yaml").write_text(cfg.dump())
    (tmp_path / "script.py").write_text(TWO_PROCESSES)

    # The limit is for processes that wait for each other for ever; a busy machine takes minutes.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "script.py", str(tmp_path), str(project_folder)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(project_folder), "OMP_NUM_THREADS": "1"},
        timeout=3600,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("model_final.pth", "model_final_ema.pth"):
        whole, resumed = (torch.load(tmp_path / run / name, weights_only=True) for run in ("whole", "resumed"))
        assert differences(whole, resumed) == [] and whole["iteration"] == 5
    state = torch.load(tmp_path / "resumed" / "model_final.pth", weights_only=True)["trainer"]["hooks"]
    assert state["AveragedWeights"]["updates"] == 6


def test_runs_of_other_seeds_differ(train: Callable[..., Any]) -> None:
    first, second = train("first", "DATASETS.TEST", ()), train("second", "DATASETS.TEST", (), "SEED", 4)

    assert len(differences(first["model"], second["model"])) > 50


def test_a_run_without_a_seed_goes_on_with_its_own(train: Callable[..., Any], tmp_path: Path) -> None:
    options = ("SEED", -1, "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0)
    train("resumed", *options, cuts=[Cut(2)])

    saved = [
        torch.load(tmp_path / "resumed" / name, weights_only=True) for name in ("model_0000001.pth", "model_final.pth")
    ]

    first, last = (content["trainer"]["hooks"]["ExactResume"] for content in saved)
    assert first["seed"] == last["seed"] and (first["batches"], last["batches"]) == (2, 6)


LOADERS: dict[str, list[object]] = {
    "grouped": ["DATALOADER.ASPECT_RATIO_GROUPING", True],
    "as they come": ["DATALOADER.ASPECT_RATIO_GROUPING", False],
    "rare classes": [
        *("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", 1.0),
    ],
    "ricap": ["INPUT.RICAP.ENABLED", True, "MODEL.DETR.MASK_ON", True],
}


@pytest.mark.parametrize("options", list(LOADERS.values()), ids=list(LOADERS))
@pytest.mark.parametrize("workers", [(0, 2), (2, 1)], ids=str)
def test_a_loader_goes_on_with_the_same_images_augmented_the_same_way(
    tiny_config: Callable[..., CfgNode], options: list[object], workers: tuple[int, int]
) -> None:
    first, second = (tiny_config(*options, "SEED", 3, "DATALOADER.NUM_WORKERS", number) for number in workers)
    register_from_config(first)
    whole = list(islice(build_train_loader(first), 9))
    cut_off, goes_on = build_train_loader(first), build_train_loader(second)
    list(islice(cut_off, 4))

    goes_on.load_state_dict(cut_off.state_dict())

    for one, other in zip(whole[4:], islice(goes_on, 5), strict=True):
        assert [entry["file_name"] for entry in one] == [entry["file_name"] for entry in other]
        assert all(torch.equal(a["image"], b["image"]) for a, b in zip(one, other, strict=True))


def test_batches_of_another_size_go_on_with_the_next_images(tiny_config: Callable[..., CfgNode]) -> None:
    options = ("DATALOADER.ASPECT_RATIO_GROUPING", False, "DATALOADER.NUM_WORKERS", 0, "SEED", 3)
    cfg = tiny_config(*options, "SOLVER.IMS_PER_BATCH", 1)
    register_from_config(cfg)
    names = [batch[0]["image"].sum() for batch in islice(build_train_loader(cfg), 8)]
    pairs = build_train_loader(tiny_config(*options, "SOLVER.IMS_PER_BATCH", 2))
    list(islice(pairs, 2))

    goes_on = build_train_loader(cfg)
    goes_on.load_state_dict(pairs.state_dict())

    assert [batch[0]["image"].sum() for batch in islice(goes_on, 4)] == names[4:]


def test_workers_that_are_spawned_have_the_share_of_their_process(
    tiny_config: Callable[..., CfgNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of a process that was itself spawned are, and know nothing of the other processes."""
    cfg = tiny_config("SEED", 3, "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2)
    register_from_config(cfg)
    monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda: 1)
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    loader = build_train_loader(cfg)

    copy = pickle.loads(pickle.dumps(loader._sampler))
    monkeypatch.undo()

    assert list(islice(copy, 3)) == list(islice(loader._sampler, 3))
    first = build_train_loader(cfg)
    assert list(islice(copy, 3)) == list(islice(first._sampler, 6))[1::2]
