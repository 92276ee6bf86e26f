"""INFERENCE_DTYPE auto: bfloat16 where the device multiplies in it, nowhere else, and the log says which."""

from __future__ import annotations

import logging

import pytest
import torch

from detr_d2.network import auto_dtype, autocast

from detectron2.modeling import build_model

FEATURES = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")


@pytest.fixture(autouse=True)
def _asked_anew():
    auto_dtype.cache_clear()
    yield
    auto_dtype.cache_clear()


def _processor_with(monkeypatch, *features):
    for name in FEATURES:
        monkeypatch.setattr(torch.cpu, name, lambda has=name in features: has, raising=False)


@pytest.mark.parametrize("feature", FEATURES)
def test_auto_takes_bfloat16_where_the_processor_multiplies_in_it(monkeypatch, caplog, feature):
    _processor_with(monkeypatch, feature)
    with caplog.at_level(logging.INFO), autocast("auto", "cpu"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.bfloat16
    assert "INFERENCE_DTYPE auto: bfloat16, as this device (cpu) multiplies in it" in caplog.text


def test_auto_takes_float32_elsewhere_and_says_so_once(monkeypatch, caplog):
    _processor_with(monkeypatch)
    with caplog.at_level(logging.INFO):
        products = []
        for _ in range(3):
            with autocast("auto", "cpu"):
                products.append(torch.ones(2, 2) @ torch.ones(2, 2))
    assert {product.dtype for product in products} == {torch.float32}
    assert caplog.text.count("INFERENCE_DTYPE auto: float32, as this device (cpu) doesn't multiply bfloat16") == 1


def test_auto_takes_float32_where_torch_knows_no_such_features(monkeypatch):
    for name in FEATURES:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert auto_dtype("cpu") == "float32"
    assert auto_dtype("mps") == "float32"


@pytest.mark.parametrize("features", [(), FEATURES], ids=["float32", "bfloat16"])
def test_a_model_with_auto_is_the_model_with_what_auto_takes(monkeypatch, tiny_config, features):
    _processor_with(monkeypatch, *features)
    taken = "bfloat16" if features else "float32"
    image = {"image": torch.rand(3, 64, 64) * 255, "height": 64, "width": 64}
    found = []
    for dtype in ("auto", taken):
        torch.manual_seed(0)
        model = build_model(tiny_config("MODEL.DETR.MASK_ON", True, "MODEL.DETR.INFERENCE_DTYPE", dtype)).eval()
        with torch.no_grad():
            found.append(model.detect([image])[0])
    assert torch.equal(found[0]["pred_logits"], found[1]["pred_logits"])
    assert torch.equal(found[0]["pred_boxes"], found[1]["pred_boxes"])
