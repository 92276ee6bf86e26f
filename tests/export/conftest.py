"""A model that sees something, and the files that it is exported to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from detr_d2.export import export_model
from detr_d2.meta_arch import DetrPanoptic
from tests.made_models import decided

from detectron2.config import CfgNode


@pytest.fixture
def model(tiny_config: Callable[..., CfgNode]) -> tuple[DetrPanoptic, CfgNode]:
    """The same one for all tests, as its weights are drawn with one seed."""
    cfg = tiny_config("MODEL.DETR.MASK_ON", True)
    return decided(cfg), cfg


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each kind of file is written here once for all tests, as exporting takes seconds."""
    return tmp_path_factory.mktemp("exported")


@pytest.fixture
def onnx_file(model: tuple[DetrPanoptic, CfgNode], exported: Path) -> Path:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="pip install 'detr_d2[export]'")
    path = exported / "model.onnx"
    return path if path.exists() else export_model(*model, path, "onnx")


@pytest.fixture
def torch_file(model: tuple[DetrPanoptic, CfgNode], exported: Path) -> Path:
    path = exported / "model.pt2"
    return path if path.exists() else export_model(*model, path, "torch")
