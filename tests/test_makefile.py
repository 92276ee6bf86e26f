"""The Makefile: its help is complete, and asking it what it would do does nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TARGETS = ["help", "quickstart", "test", "test-versions", "fuzz", "lint", "bench", "clean"]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make isn't installed")


def make(folder: Path, *arguments: str) -> str:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_help_has_a_line_for_every_target(project_folder: Path) -> None:
    declared = re.search(r"^\.PHONY: (.*)$", (project_folder / "Makefile").read_text(), flags=re.MULTILINE)
    listed = re.findall(r"^  ([a-z-]+) +\S", make(project_folder, "help"), flags=re.MULTILINE)

    assert declared is not None
    assert listed == declared[1].split()
    assert set(TARGETS) <= set(listed)


def test_make_alone_is_help(project_folder: Path) -> None:
    assert make(project_folder) == make(project_folder, "help")


def test_installing_is_done_again_only_when_setup_py_changed(project_folder: Path, tmp_path: Path) -> None:
    for name in ("Makefile", "setup.py"):
        shutil.copy(project_folder / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    for stamp in ("installed", "installed-test"):
        (tmp_path / ".venv" / f"{stamp}.stamp").touch()

    unchanged = make(tmp_path, "--dry-run", "test")
    changed = make(tmp_path, "--dry-run", "--assume-new=setup.py", "test")

    assert "pip install" not in unchanged
    assert changed.count("pip install") == 3


def test_unusable_python_is_named(project_folder: Path, tmp_path: Path) -> None:
    shutil.copy(project_folder / "Makefile", tmp_path)
    shutil.copy(project_folder / "setup.py", tmp_path)

    done = subprocess.run(["make", "PYTHON=", "install"], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode != 0
    assert "No Python 3.10 or later" in done.stderr
    assert not (tmp_path / ".venv").exists()
