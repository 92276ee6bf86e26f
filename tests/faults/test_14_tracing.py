"""Tools that trace the model (counts of operations, Detectron2's TracingAdapter) get through it whole."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detr_d2.backend import backend_report
from detr_d2.meta_arch import DetrPanoptic
from tests.made_models import decided

from detectron2.config import CfgNode

needs_detectron2 = pytest.mark.skipif(
    backend_report().name != "installed",
    reason="detectron2.utils.analysis and detectron2.export are Detectron2's alone",
)


@pytest.fixture
def model(tiny_config: Callable[..., CfgNode]) -> DetrPanoptic:
    model = decided(tiny_config("MODEL.DETR.MASK_ON", True))
    model.postprocess.score_threshold, model.postprocess.overlap_threshold = 0.1, 0.1
    return model


@pytest.fixture
def inputs() -> list[dict[str, Any]]:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 8)).repeat(16, 1).repeat(16, 2)
    return [{"image": torch.from_numpy(pixels).float(), "height": 140, "width": 190}]


class MapOf(nn.Module):
    """The model as a function of tensors: an image's panoptic map, and the masks of its instances."""

    def __init__(self, model: DetrPanoptic) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        [result] = self.model([{"image": image}])
        return result["panoptic_seg"][0], result["instances"].pred_masks


def test_traced_model_gives_the_models_map(model: DetrPanoptic, inputs: list[dict[str, Any]]) -> None:
    expected = MapOf(model)(inputs[0]["image"])

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(MapOf(model), inputs[0]["image"], check_trace=False)

    assert len(expected[0].unique()) > 1
    for found, wanted in zip(traced(inputs[0]["image"]), expected):
        assert found.shape == wanted.shape
        assert (found != wanted).float().mean() < 0.01, "at most where two masks are nearly equal"


def test_sizes_that_are_numpys_or_tensors_are_as_good_as_ints(
    model: DetrPanoptic, inputs: list[dict[str, Any]]
) -> None:
    [expected] = model(inputs)

    [found] = model([inputs[0] | {"height": torch.tensor(140), "width": np.int64(190)}])

    assert torch.equal(found["panoptic_seg"][0], expected["panoptic_seg"][0])
    assert torch.equal(found["instances"].pred_masks, expected["instances"].pred_masks)
    assert found["instances"].image_size == (140, 190)


@needs_detectron2
@pytest.mark.filterwarnings("ignore")
def test_operations_are_counted(model: DetrPanoptic, inputs: list[dict[str, Any]]) -> None:
    from detectron2.utils.analysis import FlopCountAnalysis

    flops = FlopCountAnalysis(model, inputs)

    by_module = flops.by_module()
    assert by_module["model.detr.backbone"] > 0 and by_module["model.mask_head"] > 0


@needs_detectron2
@pytest.mark.filterwarnings("ignore")
def test_adapter_traces_the_model(model: DetrPanoptic, inputs: list[dict[str, Any]]) -> None:
    from detectron2.export import TracingAdapter

    adapter = TracingAdapter(model, [{"image": inputs[0]["image"]}], allow_non_tensor=True)

    traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)

    expected = adapter(*adapter.flattened_inputs)
    assert len(expected) == len(traced(*adapter.flattened_inputs))
