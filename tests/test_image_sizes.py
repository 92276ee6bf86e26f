"""Pictures of all sizes: one pixel, one row, many megapixels, grey, and very different ones in one batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from detr_d2.meta_arch import DetrPanoptic
from detr_d2.prediction import DetrPredictor
from detr_d2.prediction.images import read_image

from detectron2.modeling import build_model

OPTIONS = ("MODEL.DETR.MASK_ON", True, "MODEL.DETR.SCORE_THRESHOLD", 0.3, "MODEL.DETR.MASK_CHUNK_BYTES", 1)


@pytest.fixture
def model(tiny_config) -> DetrPanoptic:
    """An untrained model that sees something at every query."""
    built = build_model(tiny_config(*OPTIONS)).eval()
    with torch.no_grad():
        built.detr.class_embed.weight.normal_(std=0.1)
        built.detr.class_embed.bias[0] = 6.0
    return built


def _image(height: int, width: int) -> dict:
    return {"image": torch.randint(256, (3, height, width), dtype=torch.uint8), "height": height, "width": width}


def _check(result: dict, height: int, width: int) -> None:
    panoptic, segments = result["panoptic_seg"]
    assert panoptic.shape == (height, width)
    assert {s["id"]: s["area"] for s in segments} == {
        int(i): int((panoptic == i).sum()) for i in panoptic.unique() if i
    }
    assert result["instances"].pred_masks.shape[1:] == (height, width)
    assert result["instances"].pred_boxes.tensor.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (7, 3), (33, 65), (640, 31)])
def test_images_of_odd_sizes_work(model, size):
    with torch.no_grad():
        [result] = model([_image(*size)])

    _check(result, *size)


def test_a_batch_of_very_different_sizes_works(model):
    sizes = [(1, 1), (300, 40), (17, 500), (256, 256)]

    with torch.no_grad():
        results = model([_image(*size) for size in sizes])

    for result, size in zip(results, sizes, strict=True):
        _check(result, *size)


def test_masks_of_a_large_image_stay_within_the_memory_bound(model):
    at_once = []
    model.mask_head.register_forward_hook(lambda _module, _inputs, output: at_once.append(output))
    model.mask_chunk_bytes = 3 * 4 * 16 * 256 * 192  # three layers of 2 channels, float32, for 8 queries

    with torch.no_grad():
        [result] = model([_image(1024, 768) | {"height": 4000, "width": 3000}])

    _check(result, 4000, 3000)
    assert [len(masks) for masks in at_once] == [8, 4]


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (3000, 4000)])
def test_files_of_odd_sizes_work_from_end_to_end(model, tiny_config, tmp_path, size):
    cfg = tiny_config(*OPTIONS, "INPUT.MIN_SIZE_TEST", 64)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    grey = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")

    image = read_image(tmp_path / "grey.png")

    _check(DetrPredictor(cfg)(image), *size)
