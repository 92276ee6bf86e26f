"""Commands in folders of odd names, from other working directories, with little memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ["with space", "ünï çødé 日本", "x" * 200, "-dash", "%41[a]*?", "'quotes\" $HOME"]


def detr_d2(folder: Path, project: Path, *words: str, memory: int = 0) -> subprocess.CompletedProcess[str]:
    """``detr-d2`` in a process of its own, working in ``folder``, with so many bytes of memory at most."""

    def limit() -> None:
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    environment = os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "detr_d2", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, preexec_fn=limit)


@pytest.mark.parametrize("name", NAMES)
def test_dataset_is_made_and_checked_in_a_folder_of_any_name(tmp_path: Path, project_folder: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    relative = f"./{name}/yard"

    made = detr_d2(tmp_path, project_folder, "yard", relative, "--train", "1", "--val", "1", "--size", "64x48")
    checked = detr_d2(tmp_path, project_folder, "check", relative, "--json", f"./{name}/faults.json")

    assert (made.returncode, checked.returncode) == (0, 0), made.stderr + checked.stderr
    assert sorted(os.listdir(tmp_path / name)) == ["faults.json", "yard"]


def test_labels_are_checked_and_prepared_with_little_memory(tmp_path: Path, project_folder: Path) -> None:
    words = ("yard", "exports", "--train", "3", "--val", "1", "--size", "64x48", "--layout", "cvat")
    made = detr_d2(tmp_path, project_folder, *words)

    prepared = detr_d2(
        *(tmp_path, project_folder, "prepare", "--cvat", "exports/cvat", "--out", "made", "--workers", "1"),
        memory=900 * 2**20,
    )

    assert (made.returncode, prepared.returncode) == (0, 0), made.stderr + prepared.stderr
