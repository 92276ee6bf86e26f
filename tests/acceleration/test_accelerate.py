"""The accelerated model against the plain one: the same numbers, parameters and copies, and nothing needs it."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detr_d2.acceleration import ACCELERATIONS, accelerate_
from detr_d2.data import DetrPanopticDatasetMapper
from detr_d2.meta_arch import DetrPanoptic
from tests.made_models import decided

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

#: Sizes of res2 that double on the way up, and such that don't.
SIZES = ((128, 160), (97, 131))


@pytest.fixture
def pair(tiny_config: Callable[..., CfgNode]) -> tuple[DetrPanoptic, DetrPanoptic]:
    """The same network twice: plain, and as configs build it."""
    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "MODEL.DETR.DROPOUT", 0.0, "MODEL.DETR.SCORE_THRESHOLD", 0.3)
    fast, plain = decided(cfg), DetrPanoptic(cfg, accelerate=False).eval()
    plain.load_state_dict(fast.state_dict())
    return plain, fast


def _images() -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    pixels = [generator.integers(0, 256, (3, -(-height // 16), -(-width // 16))) for height, width in SIZES]
    return [
        {"image": torch.from_numpy(small.repeat(16, 1).repeat(16, 2)[:, :height, :width].astype(np.float32))}
        for small, (height, width) in zip(pixels, SIZES, strict=True)
    ]


def _is_changed(module: nn.Module) -> bool:
    return "forward" in vars(module) or type(module).__module__.startswith("detr_d2.acceleration")


def test_plain_model_has_nothing_of_the_accelerations_and_the_other_one_has_all(pair) -> None:
    plain, fast = pair
    changed = {name for name, module in fast.named_modules() if _is_changed(module)}

    assert not any(_is_changed(module) for module in plain.modules())
    assert {"detr.backbone", "detr.backbone.res3.0.conv1", "mask_head"} <= changed
    assert fast.mask_head.lay1.weight.is_contiguous(memory_format=torch.channels_last)


def test_results_are_those_of_the_plain_model(pair) -> None:
    with torch.no_grad():
        expected, found = (model(_images()) for model in pair)

    for wanted, result in zip(expected, found, strict=True):
        assert len(wanted["panoptic_seg"][1]) > 1
        assert [s["category_id"] for s in result["panoptic_seg"][1]] == [
            s["category_id"] for s in wanted["panoptic_seg"][1]
        ]
        assert (result["panoptic_seg"][0] != wanted["panoptic_seg"][0]).float().mean() < 0.002, "but for ties"
        # Attention is multiplied by hundreds in this model, and so are the last digits of float32.
        torch.testing.assert_close(result["instances"].scores, wanted["instances"].scores, atol=3e-4, rtol=1e-4)
        boxes = [instances.pred_boxes.tensor for instances in (result["instances"], wanted["instances"])]
        torch.testing.assert_close(*boxes, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("freeze", [False, True])
def test_losses_and_gradients_are_those_of_the_plain_model(freeze: bool, tiny_config: Callable[..., CfgNode]) -> None:
    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "MODEL.DETR.FREEZE_DETECTOR", freeze, "MODEL.DETR.DROPOUT", 0.0)
    cfg.merge_from_list(["MODEL.RESNETS.NORM", "FrozenBN"])  # norms that are trained magnify rounding
    models = [build_model(cfg), DetrPanoptic(cfg, accelerate=False)]
    models[1].load_state_dict(models[0].state_dict())
    mapper = DetrPanopticDatasetMapper(cfg, is_train=True)
    batch = [mapper(record) for record in DatasetCatalog.get("yard_train")[:2]]
    found = []

    for model in models:
        losses = model.train()(batch)
        sum(losses.values()).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((losses, gradients))

    assert found[0][0].keys() == found[1][0].keys()
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-5)
    assert found[0][1].keys() == found[1][1].keys()
    largest = max(gradient.norm() for gradient in found[1][1].values())
    for name, gradient in found[1][1].items():
        difference = (found[0][1][name] - gradient).norm()
        # Biases before norms have nothing but rounding.
        assert difference <= 0.001 * max(gradient.norm(), largest / 1000), name


@pytest.mark.parametrize("name", ACCELERATIONS)
def test_each_acceleration_alone_changes_no_mask(name: str, pair) -> None:
    plain, _ = pair
    alone = copy.deepcopy(plain)
    accelerate_(alone, [name])
    masks = []

    for model in (plain, alone):
        model.mask_head.register_forward_hook(lambda _module, _inputs, output: masks.append(output))
        with torch.no_grad():
            model(_images())

    half = len(masks) // 2
    assert half > 1
    for wanted, found in zip(masks[:half], masks[half:], strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4 * float(wanted.std()), rtol=1e-4)


def test_copies_and_pickles_are_accelerated_too_and_have_their_own_weights(pair) -> None:
    _, fast = pair
    with torch.no_grad():
        expected = fast(_images())[0]["instances"].scores
        for again in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast.detr))):
            assert any(_is_changed(module) for module in again.modules())
        copied = copy.deepcopy(fast)
        for parameter in fast.parameters():
            parameter.zero_()

        assert torch.equal(copied(_images())[0]["instances"].scores, expected)


def test_parameters_and_their_names_stay(pair) -> None:
    plain, fast = pair

    names = [[(name, value.shape) for name, value in model.state_dict().items()] for model in (plain, fast)]

    assert names[0] == names[1]


def test_unknown_acceleration_is_named() -> None:
    with pytest.raises(ValueError, match=r"no acceleration warp; allowed are channels_last, folding"):
        accelerate_(nn.Linear(2, 2), ["warp"])


WITHOUT = """
import sys
# The finder of an editable installation would find in its own checkout what the copy lacks.
sys.meta_path[:] = [each for each in sys.meta_path if "Editable" not in getattr(each, "__name__", "")]
import detr_d2
from detr_d2.meta_arch import DetrPanoptic
from detectron2.modeling import build_model
import torch

cfg, weights, image = torch.load(sys.argv[1], weights_only=False)
model = build_model(cfg).eval()
model.load_state_dict(weights)
with torch.no_grad():
    [result] = model([{"image": image}])
assert "detr_d2.acceleration" not in sys.modules and not any("forward" in vars(m) for m in model.modules())
torch.save([detr_d2.__file__, result["instances"].scores, result["panoptic_seg"][0]], sys.argv[2])
"""


def test_everything_works_without_the_folder(pair, tiny_config, project_folder: Path, tmp_path: Path) -> None:
    """In a copy of the package that lacks it."""
    plain, _ = pair
    shutil.copytree(project_folder / "detr_d2", tmp_path / "detr_d2")
    shutil.rmtree(tmp_path / "detr_d2" / "acceleration")
    shutil.copytree(project_folder / "configs", tmp_path / "configs")
    cfg = tiny_config("MODEL.DETR.MASK_ON", True, "MODEL.DETR.SCORE_THRESHOLD", 0.3)
    image = _images()[0]["image"]
    torch.save((cfg, plain.state_dict(), image), tmp_path / "given.pth")

    command = [sys.executable, "-W", "ignore", "-c", WITHOUT, str(tmp_path / "given.pth"), str(tmp_path / "found.pth")]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    package, scores, panoptic = torch.load(tmp_path / "found.pth", weights_only=False)
    assert Path(package).is_relative_to(tmp_path)
    with torch.no_grad():
        [expected] = plain([{"image": image}])
    assert torch.equal(scores, expected["instances"].scores) and torch.equal(panoptic, expected["panoptic_seg"][0])
