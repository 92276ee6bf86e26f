"""The quickstart says how long it takes on this machine, from the training's own speed, and ends what it started."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.modules import load_module


@pytest.fixture(scope="module")
def quickstart(project_folder: Path) -> ModuleType:
    return load_module(project_folder / "tools" / "quickstart.py")


def follow(quickstart: ModuleType, metrics: Path, minutes_before: float) -> None:
    """A training of 2000 iterations, with 1300 of the next one to come."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"])
    quickstart.follow(process, metrics, 2000, 1300, time.monotonic() - 60 * minutes_before)


@pytest.mark.parametrize(("seconds", "expected"), [(0.15, 10), (0.3, 20), (0.01, 2)])
def test_whole_time_follows_from_the_speed(
    seconds: float, expected: int, quickstart: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"iteration": 19, "total_loss": 9.0, "time": seconds}, {"iteration": 39, "panoptic_seg/PQ": 1.0}]
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, lines)))

    follow(quickstart, tmp_path / "metrics.json", minutes_before=1)

    found = re.findall(r"the whole quickstart takes about (\d+) min", capsys.readouterr().out)
    assert [int(minutes) for minutes in found] == [expected], "once"


def test_nothing_is_said_before_the_speed_is_known(
    quickstart: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(quickstart, tmp_path / "metrics.json", minutes_before=1)

    assert "whole quickstart" not in capsys.readouterr().out


def test_stages_are_as_long_as_their_configs_say(quickstart: ModuleType, tmp_path: Path) -> None:
    whole, short = quickstart.Quickstart(tmp_path, 0, False), quickstart.Quickstart(tmp_path, 0, True)

    assert whole.stage("detr_yard.yaml", 30).iterations == 950
    assert whole.stage("detr_panoptic_yard.yaml", 20).iterations == 600
    assert short.stage("detr_yard.yaml", 30).changes[:2] == ["SOLVER.MAX_ITER", "30"]


#: A quickstart of one step that never ends, terminated as soon as it has begun; prints the step's process id.
TERMINATED = """
import os, signal, sys
from pathlib import Path
from tests.modules import load_module

quickstart = load_module(Path("tools/quickstart.py").resolve())

def follow(process, *rest):
    print(process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    process.wait()

def run(self):
    self.output.mkdir(exist_ok=True)
    self.execute([sys.executable, "-c", "import time; time.sleep(600)"], "step.txt")

quickstart.follow, quickstart.Quickstart.run = follow, run
sys.exit(quickstart.run_command(quickstart.main))
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM is POSIX's")
def test_what_was_started_ends_with_a_terminated_quickstart(project_folder: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", TERMINATED, "--output", str(tmp_path / "run")]

    ended = subprocess.run(words, cwd=project_folder, capture_output=True, text=True, timeout=300)

    step = int(ended.stdout.split()[-1])
    assert ended.returncode == 143, ended.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(step, 0)
