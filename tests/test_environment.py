"""detr-d2 env: everything that a bug report needs, on any machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import detr_d2
from detr_d2 import cli, environment


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    for name in ("coco", "construction", ".hidden", "__pycache__"):
        (tmp_path / name).mkdir()
    (tmp_path / "a_file.json").touch()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return {title.strip(): value for title, value in environment.describe_environment()}


def test_environment_names_versions(described: dict[str, str]) -> None:
    assert described["detr_d2"].startswith(detr_d2.__version__)
    assert described["torch"].startswith(torch.__version__.split("+")[0])
    assert described.keys() >= {"python", "torchvision", "fvcore", "panopticapi"}


def test_environment_names_the_backend_and_why(described: dict[str, str]) -> None:
    report = detr_d2.backend_report()

    assert report.name in described["detectron2"] and report.version in described["detectron2"]
    assert described["why"] == report.why
    assert described["location"] == str(report.location)


def test_environment_names_devices(described: dict[str, str]) -> None:
    assert described["devices"].startswith("cpu")
    assert described["devices"].count("cuda:") == torch.cuda.device_count()


def test_environment_lists_dataset_folders_only(described: dict[str, str], tmp_path: Path) -> None:
    assert str(tmp_path) in described["datasets"]
    assert described["found"] == "coco, construction"


def test_environment_says_that_the_dataset_folder_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.chdir(tmp_path)

    described = dict(environment.describe_environment())

    assert described["datasets"].startswith(f"no folder {tmp_path / 'datasets'}")


def test_absent_package_has_no_version() -> None:
    assert environment.package_version("surely-not-a-package") is None


def test_env_command_prints_one_line_a_fact(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["env"])

    assert code == 0
    assert len(capsys.readouterr().out.splitlines()) == len(environment.describe_environment())
