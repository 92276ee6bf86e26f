"""What the tests of ``train_net.py`` in a process of its own look at."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path


def environment(project: Path, **more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"} | more


def spoken(stderr: str) -> list[str]:
    """The lines of stderr without torch's own remarks about the machine."""
    return [line for line in stderr.strip().splitlines() if not re.match(r"W\d{4} .*\btorch/", line)]


def assert_refused(result: subprocess.CompletedProcess[str], *expected: str) -> None:
    """One sentence on stderr, exit code 2, no traceback anywhere."""
    assert result.returncode == 2, (result.returncode, result.stdout[-2000:], result.stderr[-2000:])
    lines = spoken(result.stderr)
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    assert "Traceback" not in result.stderr + result.stdout, result.stderr + result.stdout
    for text in expected:
        assert re.search(text, result.stderr), (text, result.stderr)
