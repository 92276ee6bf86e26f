"""``detr-d2 export`` and what it refuses: mistakes get one message, and leave nothing half-written."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from detr_d2 import cli
from detr_d2.checkpoint import DetrCheckpointer
from detr_d2.errors import ConfigError, MissingFileError
from detr_d2.export import DetrGraph, export_model, writing

from detectron2.modeling import build_model


def test_command_exports_a_checkpoint(tiny_config, tmp_path, capsys):
    DetrCheckpointer(build_model(tiny_config()), str(tmp_path)).save("model_final")

    code = cli.main(["export", str(tmp_path / "model_final.pth"), str(tmp_path / "model.pt2")])

    assert code == 0
    assert "boxes of 10 classes" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.glob("*.pt2")) == ["model.pt2"]


def test_missing_checkpoint_is_named_and_nothing_written(tiny_config, tmp_path):
    (tmp_path / "config.yaml").write_text(tiny_config().dump(), encoding="utf-8")
    words = [str(tmp_path / "gone.pth"), str(tmp_path / "model.pt2"), "--config-file", str(tmp_path / "config.yaml")]

    with pytest.raises(MissingFileError, match=r"gone\.pth"):
        cli.main(["export", *words])

    assert not (tmp_path / "model.pt2").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [("model.xyz", r"\.onnx or \.pt2"), ("none/model.pt2", "no folder"), ("folder.pt2", "is a folder")],
)
def test_outputs_that_cannot_be_written_are_refused_first(out, message, tmp_path):
    (tmp_path / "folder.pt2").mkdir()

    with pytest.raises(ConfigError, match=message):
        cli.main(["export", "unread.pth", str(tmp_path / out)])


def test_missing_packages_are_named_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(writing.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"onnx and onnxscript.*pip install 'detr_d2\[export\]'"):
        cli.main(["export", "unread.pth", str(tmp_path / "model.onnx")])


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("interrupted")])
def test_a_failed_export_leaves_the_older_file_and_nothing_else(error, tiny_config, tmp_path, monkeypatch):
    def fail(program: object, output_names: list[str], description: str, path: Path, report: object) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setitem(writing.FORMATS, "torch", fail)
    (tmp_path / "model.pt2").write_bytes(b"older")

    with contextlib.suppress(RuntimeError), pytest.raises(ConfigError, match="no space left"):
        export_model(build_model(tiny_config()), tiny_config(), tmp_path / "model.pt2", "torch")

    assert [path.name for path in tmp_path.glob("*model*")] == ["model.pt2"]
    assert (tmp_path / "model.pt2").read_bytes() == b"older"


def test_unknown_formats_and_channel_orders_are_refused(tiny_config, tmp_path):
    model = build_model(tiny_config())

    with pytest.raises(ConfigError, match="allowed are onnx, torch"):
        export_model(model, tiny_config(), tmp_path / "model.pb", "pb")
    with pytest.raises(ValueError, match=r"INPUT\.FORMAT"):
        DetrGraph(model, "YUV-BT.601")
