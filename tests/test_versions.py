"""The lowest versions that tests are run with are those that setup.py declares."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_lowest_versions_are_the_bounds_of_setup_py(project_folder: Path) -> None:
    command = [sys.executable, str(project_folder / "tools" / "try_versions.py"), "lowest", "--list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    text = (project_folder / "setup.py").read_text(encoding="utf-8")
    declared = re.findall(r"""["'(]([A-Za-z][\w-]+)(?:\[\w+\])?>=([\w.]+)[,;"']""", text)
    of_developers = ("ruff", "mypy", "import-linter")

    assert set(listed) == {f"{name}=={bound}" for name, bound in declared if name not in of_developers}
    assert {"torch==2.6", "numpy==1.24", "pytest==7.4"} <= set(listed)


def test_every_requirement_has_a_lower_bound(project_folder: Path, tmp_path: Path) -> None:
    text = (project_folder / "setup.py").read_text(encoding="utf-8")
    tool = project_folder / "tools" / "try_versions.py"
    copy = tmp_path / "tools" / tool.name
    copy.parent.mkdir()
    copy.write_bytes(tool.read_bytes())
    (tmp_path / "setup.py").write_text(text.replace('"scipy>=1.10,<2"', '"scipy<2"'), encoding="utf-8")

    done = subprocess.run([sys.executable, str(copy), "lowest", "--list"], capture_output=True, text=True)

    assert done.returncode == 2
    assert "no lower bound" in done.stderr and "scipy<2" in done.stderr
