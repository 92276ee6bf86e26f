"""Checkpoints: what is saved, how training goes on from it, and which weights find their place."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import detectron2
from detectron2.checkpoint import DetectionCheckpointer

IS_FALLBACK = detectron2.__version__.startswith("0.0")


class Model(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.zeros(3))
        self.backbone = nn.Sequential()
        self.backbone.add_module("conv1", nn.Linear(2, width))
        self.backbone.add_module("res2", nn.Sequential(nn.Linear(width, width)))
        self.head = nn.Linear(width, 1)


class Counter:
    """Something with a state that isn't a model."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def state_dict(self) -> dict[str, int]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.value = state["value"]


def assert_equal_states(a: nn.Module, b: nn.Module) -> None:
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name])


def zoo_file(path: Path, **weights: np.ndarray) -> str:
    """A file as in Detectron2's model zoo, with dots for double underscores."""
    named = {name.replace("__", "."): value for name, value in weights.items()}
    path.write_bytes(pickle.dumps({"model": named, "__author__": "test", "matching_heuristics": True}))
    return str(path)


def test_saved_checkpoint_is_plain_data_with_model_and_checkpointables(tmp_path: Path) -> None:
    model = Model()

    DetectionCheckpointer(model, str(tmp_path), counter=Counter(5)).save("model_0000004", iteration=4)

    saved = torch.load(tmp_path / "model_0000004.pth", weights_only=True)
    assert set(saved) == {"model", "counter", "iteration"}
    assert saved["model"].keys() == model.state_dict().keys()
    assert (saved["counter"], saved["iteration"]) == ({"value": 5}, 4)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000004.pth"


def test_resume_or_load_resumes_all_from_the_last_checkpoint(tmp_path: Path) -> None:
    first = Model()
    DetectionCheckpointer(first, str(tmp_path), counter=Counter(5)).save("model_0000004", iteration=4)
    second, counter = Model(), Counter()
    checkpointer = DetectionCheckpointer(second, str(tmp_path), counter=counter)

    extra = checkpointer.resume_or_load("", resume=True)

    assert checkpointer.has_checkpoint() and checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000004.pth")
    assert (extra["iteration"], counter.value) == (4, 5)
    assert_equal_states(first, second)


def test_resume_or_load_without_resume_loads_only_the_weights(tmp_path: Path) -> None:
    first = Model()
    DetectionCheckpointer(first, str(tmp_path), counter=Counter(5)).save("given")
    second, counter = Model(), Counter()

    DetectionCheckpointer(second, str(tmp_path / "new"), counter=counter).resume_or_load(str(tmp_path / "given.pth"))

    assert counter.value == 0
    assert_equal_states(first, second)


def test_checkpointer_not_saving_to_disk_writes_nothing(tmp_path: Path) -> None:
    DetectionCheckpointer(Model(), str(tmp_path), save_to_disk=False).save("model")

    assert list(tmp_path.iterdir()) == []


def test_load_without_a_path_changes_nothing() -> None:
    assert DetectionCheckpointer(Model()).load("") == {}


def test_load_takes_a_bare_state_dict(tmp_path: Path) -> None:
    first, second = Model(), Model()
    torch.save(first.state_dict(), tmp_path / "bare.pth")

    DetectionCheckpointer(second).load(str(tmp_path / "bare.pth"))

    assert_equal_states(first, second)


def test_load_reports_shapes_missing_and_unexpected_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = Model(width=3).state_dict()
    state["head.weight"] = torch.zeros(1, 7)
    state["stranger"] = torch.zeros(1)
    del state["head.bias"], state["pixel_mean"]
    torch.save({"model": state}, tmp_path / "other.pth")
    model = Model()

    with caplog.at_level(logging.WARNING, logger="fvcore"):
        logging.getLogger("fvcore").propagate = True
        DetectionCheckpointer(model).load(str(tmp_path / "other.pth"))

    assert "Skip loading parameter 'head.weight'" in caplog.text
    assert "(1, 7) in the checkpoint but (1, 3) in the model" in caplog.text
    assert "head.bias" in caplog.text.replace("{", "").replace("\x1b[0m", "") and "stranger" in caplog.text
    assert "pixel_mean" not in caplog.text


@pytest.mark.parametrize("protocol", [2, 5])
def test_zoo_weights_find_the_longest_matching_ending(tmp_path: Path, protocol: int) -> None:
    model = Model()
    weights = {"conv1.bias": np.full(3, 5, np.float32), "res2.0.bias": np.full(3, 6, np.float32)}
    weights["0.bias"] = np.full(3, 7, np.float32)  # shorter than res2.0.bias
    weights["ead.bias"] = np.full(1, 8, np.float32)  # not a whole part of a name
    data = {"model": weights, "__author__": "test", "matching_heuristics": True}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(data, protocol=protocol))
    head = model.head.bias.detach().clone()

    DetectionCheckpointer(model).load(str(tmp_path / "zoo.pkl"))

    assert model.backbone.conv1.bias.tolist() == [5, 5, 5]
    assert model.backbone.res2[0].bias.tolist() == [6, 6, 6]
    torch.testing.assert_close(model.head.bias, head)


def test_zoo_weights_of_another_shape_are_left_out(tmp_path: Path) -> None:
    model = Model()
    before = model.head.weight.detach().clone()

    DetectionCheckpointer(model).load(zoo_file(tmp_path / "zoo.pkl", head__weight=np.ones((9, 9), np.float32)))

    torch.testing.assert_close(model.head.weight, before)


def test_zoo_weights_that_fit_two_places_are_refused(tmp_path: Path) -> None:
    path = zoo_file(tmp_path / "zoo.pkl", weight=np.ones((3, 3), np.float32))
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    with pytest.raises(ValueError, match=r"weight|multiple"):
        DetectionCheckpointer(model).load(path)


class _Malicious:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("touched"),)


@pytest.mark.skipif(not IS_FALLBACK, reason="Detectron2 itself unpickles whatever a .pkl holds")
def test_zoo_weights_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": {}, "__author__": _Malicious()}))

    with pytest.raises(ValueError, match="numpy arrays only"):
        DetectionCheckpointer(Model()).load("zoo.pkl")

    assert not (tmp_path / "touched").exists()
