"""Damaged files and what the commands do with them; and that the guard, which judges them, sees what it should."""

from __future__ import annotations

import importlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from detr_d2.errors import ConfigError

#: Cases of the tests; tools/fuzz.py runs thousands.
CASES = 120

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the guard counts on Linux")


@pytest.fixture(scope="module")
def tools(project_folder: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of tools/ by name."""
    before = sys.path.copy()
    sys.path.insert(0, str(project_folder / "tools"))
    yield importlib.import_module
    sys.path[:] = before


def run_fuzz(project_folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", str(project_folder / "tools" / "fuzz.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=3000)


@pytest.mark.slow
def test_commands_refuse_damaged_files_in_one_sentence(project_folder: Path, tmp_path: Path) -> None:
    done = run_fuzz(project_folder, "--cases", str(CASES), "--keep", str(tmp_path), "--cpu-seconds", "60")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{CASES} cases" in done.stdout


@pytest.mark.slow
def test_commands_of_the_fuzz_succeed_on_whole_files(project_folder: Path, tmp_path: Path) -> None:
    done = run_fuzz(project_folder, "--whole", "--target", "check", "--keep", str(tmp_path), "--cpu-seconds", "60")

    assert done.returncode == 0, done.stdout + done.stderr


def test_case_is_the_same_whenever_it_is_made(tools: Callable[[str], ModuleType], tmp_path: Path) -> None:
    structures = tools("fuzzing.structures")
    content = json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": [1.5, None]}).encode()

    made = [structures.change_content("a.json", content, random.Random("0/1")) for _ in range(2)]

    assert made[0] == made[1] != content


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.xml", "a.zip", "a.png", "a.pth", "a.pkl", "a.safetensors"])
def test_any_content_can_be_changed(tools: Callable[[str], ModuleType], name: str) -> None:
    structures, rng = tools("fuzzing.structures"), random.Random(0)

    for content in (b"", b"\0", b"{}", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", bytes(range(256))):
        for _ in range(20):
            assert isinstance(structures.change_content(name, content, rng), bytes)


def judged(tools: Callable[[str], ModuleType], folder: Path, act: Callable[[Path], Any], **limits: int) -> Any:
    """What the fuzz says of a program that does ``act(folder)``."""
    cases, guard = tools("fuzzing.cases"), tools("fuzzing.guard")

    def make(place: Path) -> Any:
        for name in ("in", "out", "tmp", "work", "home", "outside"):
            (place / name).mkdir()
        (place / "outside" / "secret.png").touch()
        return cases.Case(0, 0, "check", [], ["program"])

    running = cases.Running(folder / "case", guard.Limits(**limits), make, lambda *_: act(folder / "case"))
    while (result := running.finished()) is None:
        time.sleep(0.01)
    return result


def _refuse(folder: Path) -> int:
    raise ConfigError("a sentence.")


def _write_beside(folder: Path) -> int:
    (folder / "in" / "x").write_text("x")
    return 0


def _loop(folder: Path) -> int:
    while True:
        pass


def _wait(folder: Path) -> int:
    os.mkfifo(folder / "out" / "pipe")
    return len((folder / "out" / "pipe").read_text())


def _fill_memory(folder: Path) -> int:
    return len(bytearray(2**26)) % 2


def _unpickle(folder: Path) -> int:
    import pickle

    pickle.loads(b"cos\nsystem\n(S'true'\ntR.")
    return 0


ACTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda folder: 0, ""),
    "writing what it may": (lambda folder: (folder / "out" / "x").write_text(""), ""),
    "refusing in a sentence": (_refuse, ""),
    "refusing in silence": (lambda folder: 2, "silent"),
    "another exit code": (lambda folder: 3, "exit code"),
    "an error of ours": (lambda folder: [][1], "traceback"),
    "a crash": (lambda folder: os.abort(), "crash"),
    "a loop": (_loop, "hang"),
    "waiting for nobody": (_wait, "hang"),
    "much memory": (_fill_memory, "memory"),
    "writing among the inputs": (_write_beside, "forbidden"),
    "removing elsewhere": (lambda folder: (folder / "outside" / "secret.png").unlink(), "forbidden"),
    "a link to elsewhere": (lambda folder: os.symlink("/", folder / "work" / "link"), "forbidden"),
    "reading what is not its own": (lambda folder: (folder / "outside" / "secret.png").read_bytes(), "forbidden"),
    "another program": (lambda folder: os.system("true"), "forbidden"),
    "calling somebody": (lambda folder: socket.create_connection(("127.0.0.1", 9), 1), "forbidden"),
    "a pickle's function": (_unpickle, "forbidden"),
    "code of a file": (lambda folder: exec("fuzz_canary = 1"), "forbidden"),
}


@pytest.mark.parametrize("name", ACTS)
def test_guard_sees(tools: Callable[[str], ModuleType], tmp_path: Path, name: str) -> None:
    act, kind = ACTS[name]
    seconds = 2 if kind == "hang" else 60  # on a busy machine, too, what isn't to hang has its time

    result = judged(tools, tmp_path, act, cpu_seconds=seconds, wall_seconds=seconds, memory=2**25)

    assert result.kind == kind, result.details
