"""Which commit an evaluation is of."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import detr_d2
from detr_d2.evaluation.evaluation_writer import run_facts

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git isn't installed")


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=tester", "-c", "user.email=tester@example.com")
    command = ["git", *names, "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_is_asked_for_without_writing_into_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "detr_d2" / "__init__.py"
    module.parent.mkdir()
    module.write_text("first = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    os.utime(module, (1, 1))  # git's index would be brought up to date by what may write it
    index = (tmp_path / ".git" / "index").read_bytes()
    monkeypatch.setattr(detr_d2, "__file__", str(module))
    commit = git(tmp_path, "rev-parse", "HEAD")[:12]

    assert run_facts("none", [], None)["commit"] == commit
    module.write_text("first = 2, and more\n")
    assert run_facts("none", [], None)["commit"] == f"{commit}-dirty"
    assert (tmp_path / ".git" / "index").read_bytes() == index
