"""``detr-d2 export`` says what it is doing, before it does it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from detr_d2 import cli
from detr_d2.checkpoint import DetrCheckpointer

from detectron2.config import CfgNode
from detectron2.modeling import build_model


@pytest.fixture
def checkpoint(tiny_config: Callable[..., CfgNode], tmp_path: Path) -> Path:
    DetrCheckpointer(build_model(tiny_config()), str(tmp_path)).save("model_final")
    return tmp_path / "model_final.pth"


def test_export_names_each_step_on_stderr(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(checkpoint), str(tmp_path / "model.pt2")]) == 0

    captured = capsys.readouterr()
    steps = [line.split(" s] ")[1] for line in captured.err.splitlines() if " s] " in line]
    assert [step.split()[0] for step in steps] == ["reading", "tracing", "writing"]
    assert len(captured.out.splitlines()) == 1, "the result alone is on the standard output"


def test_export_to_onnx_names_its_longer_steps(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="pip install 'detr_d2[export]'")

    assert cli.main(["export", str(checkpoint), str(tmp_path / "model.onnx")]) == 0

    steps = [line.split(" s] ")[1] for line in capsys.readouterr().err.splitlines() if " s] " in line]
    assert [step.split()[0] for step in steps] == ["reading", "tracing", "translating", "simplifying", "writing"]


def test_first_step_is_said_at_once(tmp_path: Path) -> None:
    """Before the checkpoint is read: here there is none, and the step has been named all the same."""
    words = [str(tmp_path / "gone.pth"), str(tmp_path / "model.pt2")]

    done = subprocess.run([sys.executable, "-m", "detr_d2", "export", *words], capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr.index("reading") < done.stderr.index("error:")
