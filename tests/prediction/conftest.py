"""A tiny trained-looking model for all tests of predictions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import detr_d2
from detr_d2.checkpoint import DetrCheckpointer
from tests.conftest import PROJECT_FOLDER, TINY_MODEL

from detectron2.modeling import build_model


def write_checkpoint(folder: Path, yard_folder: Path, name: str, *overrides: object) -> Path:
    """A checkpoint of a tiny model of random weights, which sees something everywhere."""
    cfg = detr_d2.load_config(str(PROJECT_FOLDER / "configs" / "quickstart" / "detr_yard.yaml"))
    cfg.merge_from_list([*TINY_MODEL, "DATASETS.REGISTER", [str(yard_folder / "register.yaml")]])
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.DETR.SCORE_THRESHOLD", 0.0])
    cfg.merge_from_list(["MODEL.DETR.ATTENTION_GAIN", 10000.0, *overrides])
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        model.detr.class_embed.bias[:] = torch.tensor([1.0] * 6 + [0.5] * 4 + [-2.0])  # no-object is rare
        model.detr.query_embed.weight *= 10  # queries that differ, so that no last digit decides between their masks
    DetrCheckpointer(model, str(folder)).save(name)
    return folder / f"{name}.pth"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, yard_folder: Path) -> Path:
    """A panoptic model's file."""
    return write_checkpoint(tmp_path_factory.mktemp("model"), yard_folder, "panoptic", "MODEL.DETR.MASK_ON", True)


@pytest.fixture(scope="session")
def boxes_checkpoint(tmp_path_factory: pytest.TempPathFactory, yard_folder: Path) -> Path:
    """The file of a model without a mask head."""
    return write_checkpoint(tmp_path_factory.mktemp("model"), yard_folder, "boxes", "MODEL.DETR.MASK_ON", False)


@pytest.fixture(scope="session")
def predictor(checkpoint: Path) -> detr_d2.Predictor:
    """The panoptic model, on the CPU."""
    return detr_d2.Predictor(checkpoint, device="cpu")


@pytest.fixture(scope="session")
def photo(yard_folder: Path) -> Path:
    """An image of 160x128 pixels."""
    return sorted((yard_folder / "images").iterdir())[0]
