"""A run that was cut off and goes on ends as one that never was: its last checkpoints are equal to the last bit."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_d2.data import build_train_loader, register_from_config

from detectron2.config import CfgNode
from detectron2.engine import HookBase

STAGES: dict[str, list[object]] = {
    "boxes": ["MODEL.DETR.MASK_ON", False],
    "masks": ["MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", True],
}
SIX: list[object] = [
    *("SOLVER.MAX_ITER", 6, "SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EVAL_PERIOD", 2, "TEST.SCENES", 0, "SEED", 3),
    *("MODEL.DETR.DROPOUT", 0.1, "TEST.BOOTSTRAP", 10, "SOLVER.STEPS", (4,), "INPUT.COLOR_JITTER.ENABLED", True),
]


class PowerCut(BaseException):
    """What a test ends a run with."""


class CutsPower(HookBase):
    """Ends the run in an iteration, when that has trained but nothing of it is saved."""

    def __init__(self, iteration: int) -> None:
        self._iteration = iteration

    def after_step(self) -> None:
        if self.trainer.iter == self._iteration:
            raise PowerCut


@pytest.fixture(scope="module")
def trainer_class(project_folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("train_net_of_tests", project_folder / "train_net.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Trainer


@pytest.fixture
def train(trainer_class: Any, tiny_config: Callable[..., CfgNode], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Trains in a folder, perhaps cut off in some iterations and resumed; returns the last checkpoint."""

    def run(name: str, *overrides: object, cuts: Sequence[int] = ()) -> dict[str, Any]:
        cfg = tiny_config("OUTPUT_DIR", str(tmp_path / name), *SIX, *overrides)
        register_from_config(cfg)
        if cfg.MODEL.DETR.FREEZE_DETECTOR:
            cfg.MODEL.WEIGHTS = str(_first_weights(trainer_class, cfg, tmp_path))
        for number, iteration in enumerate([*cuts, None]):
            torch.manual_seed(number)  # a new process has other chance than the one before
            trainer = trainer_class(cfg)
            if iteration is not None:
                trainer.register_hooks([CutsPower(iteration)])
                trainer._hooks.insert(0, trainer._hooks.pop())
            trainer.resume_or_load(resume=True)
            if iteration is None:
                trainer.train()
            else:
                with pytest.raises(PowerCut):
                    trainer.train()
        content: dict[str, Any] = torch.load(tmp_path / name / "model_final.pth", weights_only=True)
        return content

    return run


def _first_weights(trainer_class: Any, cfg: CfgNode, folder: Path) -> Path:
    path = folder / "first.pth"
    if not path.exists():
        torch.save({"model": dict(trainer_class.build_model(cfg).state_dict())}, path)
    return path


def differences(first: Any, second: Any, place: str = "") -> list[str]:
    """Where two checkpoints aren't the same: names of entries."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [place]
    if isinstance(first, Mapping) and isinstance(second, Mapping) and list(first) == list(second):
        return [found for key in first for found in differences(first[key], second[key], f"{place}/{key}")]
    if isinstance(first, list | tuple) and type(first) is type(second) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [found for i, (one, other) in pairs for found in differences(one, other, f"{place}/{i}")]
    return [] if first == second else [place]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stage", list(STAGES))
def test_a_run_that_was_cut_off_ends_as_a_whole_one(train: Callable[..., Any], stage: str, workers: int) -> None:
    options = (*STAGES[stage], "DATALOADER.NUM_WORKERS", workers)

    whole, resumed = train("whole", *options), train("resumed", *options, cuts=[3, 4])

    assert differences(whole, resumed) == []
    assert len(whole["trainer"]["_trainer"]["optimizer"]["state"]) > 10 and whole["iteration"] == 5


def test_runs_of_other_seeds_differ(train: Callable[..., Any]) -> None:
    first, second = train("first", "DATASETS.TEST", ()), train("second", "DATASETS.TEST", (), "SEED", 4)

    assert len(differences(first["model"], second["model"])) > 50


def test_a_run_without_a_seed_goes_on_with_its_own(train: Callable[..., Any], tmp_path: Path) -> None:
    options = ("SEED", -1, "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0)
    train("resumed", *options, cuts=[2])

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
