"""A tiny training in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.training import environment

from detectron2.config import CfgNode

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(project_folder: Path, tiny_config: Callable[..., CfgNode], tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of a tiny training of two iterations, with options and KEY VALUE pairs."""

    def make(*words: str, folder: Path = project_folder) -> list[str]:
        cfg = tiny_config("DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0)
        file = tmp_path / "config.yaml"
        file.write_text(cfg.dump())
        return [sys.executable, "-W", "ignore", str(folder / "train_net.py"), "--config-file", str(file), *words]

    return make


@pytest.fixture
def train(command: Callable[..., list[str]], project_folder: Path, tmp_path: Path) -> Run:
    """Runs the tiny training; returns the finished process."""

    def run(*words: str, environ: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        env = environment(project_folder, **(environ or {}))
        return subprocess.run(
            command(*words), capture_output=True, text=True, errors="replace", cwd=tmp_path, env=env, **options
        )

    return run
