"""``DefaultPredictor``: one image in BGR in, one result out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import META_ARCH_REGISTRY, build_model


@META_ARCH_REGISTRY.register()
class ContractEcho(nn.Module):
    """Returns its input and its one weight."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**entry, "weight": self.weight, "training": self.training} for entry in inputs]


def make_cfg(image_format: str = "BGR", weights: str = "") -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "ContractEcho"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = weights
    cfg.INPUT.FORMAT = image_format
    cfg.INPUT.MIN_SIZE_TEST = 20
    cfg.INPUT.MAX_SIZE_TEST = 30
    return cfg


def make_image() -> np.ndarray:
    """(40, 50, 3) with the channels 0, 1, 2."""
    return np.tile(np.arange(3, dtype=np.uint8), (40, 50, 1))


@pytest.mark.parametrize(("image_format", "channels"), [("BGR", [0, 1, 2]), ("RGB", [2, 1, 0])])
def test_predictor_gives_the_model_the_format_that_it_wants(image_format: str, channels: list[int]) -> None:
    result = DefaultPredictor(make_cfg(image_format))(make_image())

    assert result["image"].dtype == torch.float32
    assert result["image"][:, 0, 0].tolist() == channels


def test_predictor_resizes_and_tells_the_original_size() -> None:
    result = DefaultPredictor(make_cfg())(make_image())

    assert tuple(result["image"].shape) == (3, 20, 25)
    assert (result["height"], result["width"]) == (40, 50)
    assert not result["training"]


def test_predictor_loads_the_weights(tmp_path: Path) -> None:
    torch.save({"model": {"weight": torch.full((1,), 4.0)}}, tmp_path / "model.pth")

    result = DefaultPredictor(make_cfg(weights=str(tmp_path / "model.pth")))(make_image())

    assert result["weight"].tolist() == [4.0]


def test_predictor_has_the_metadata_of_the_test_dataset() -> None:
    cfg = make_cfg()
    cfg.DATASETS.TEST = ("contract_predictor_val",)

    assert DefaultPredictor(cfg).metadata.name == "contract_predictor_val"


def test_model_of_an_unknown_name_is_refused_by_name() -> None:
    cfg = make_cfg()
    cfg.MODEL.META_ARCHITECTURE = "NoSuchModel"

    with pytest.raises(KeyError, match="NoSuchModel"):
        build_model(cfg)
