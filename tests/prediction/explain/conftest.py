"""A tiny model, and a recording of its forward pass over a padded batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import detr_d2  # noqa: F401
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.prediction.explain import Recording, record

from detectron2.config import CfgNode
from detectron2.modeling import build_model

TINY: tuple[object, ...] = (
    *("MODEL.DETR.ATTENTION_GAIN", 1000.0),  # or masks of an untrained head would differ by rounding only
    "MODEL.DETR.ENC_LAYERS",
    2,
    "MODEL.DETR.SCORE_THRESHOLD",
    0.0,
    "MODEL.DEVICE",
    "cpu",
)


@pytest.fixture
def make_model(tiny_config: Callable[..., CfgNode]) -> Callable[..., DetrPanoptic]:
    """Builds a tiny model with a mask head in evaluation mode; heads and queries differ enough to find something."""

    def make(*overrides: object) -> DetrPanoptic:
        torch.manual_seed(3)
        model: Any = build_model(tiny_config("MODEL.DETR.MASK_ON", True, *TINY, *overrides)).eval()
        with torch.no_grad():
            model.detr.class_embed.weight.normal_(std=1.0)
            model.detr.query_embed.weight.normal_(std=2.0)
        return model

    return make


@pytest.fixture
def batch() -> list[dict[str, torch.Tensor]]:
    """Two images of different sizes, so that both are padded."""
    return [{"image": 255 * torch.rand(3, 96, 64)}, {"image": 255 * torch.rand(3, 64, 128)}]


@pytest.fixture
def recorded(make_model: Callable[..., DetrPanoptic], batch: list[dict[str, torch.Tensor]]) -> Recording:
    return record(make_model(), batch)
