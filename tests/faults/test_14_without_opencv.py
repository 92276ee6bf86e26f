"""An installed Detectron2 needs OpenCV for its Visualizer alone, and nothing of this project needs that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detr_d2.backend import backend_report


def run_without_opencv(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    hidden = f"import sys; sys.modules['cv2'] = None; sys.argv[1:] = {list(arguments)!r}\n{code}"
    return subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize("script", ["train_net.py", "demo.py", "tools/quickstart.py"])
def test_scripts_start(script: str, project_folder: Path) -> None:
    code = f"import runpy; runpy.run_path({script!r}, run_name='__main__')"

    done = run_without_opencv(code, project_folder, "--help")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_every_module_of_the_package_can_be_imported(project_folder: Path) -> None:
    files = sorted((project_folder / "detr_d2").rglob("*.py"))
    names = [".".join(file.relative_to(project_folder).with_suffix("").parts) for file in files]
    names = [name for name in names if ".fallback." not in name and not name.endswith(("__main__", "__init__"))]

    done = run_without_opencv(f"import importlib\nfor name in {names!r}: importlib.import_module(name)", project_folder)

    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(backend_report().name != "installed", reason="the fallback's Visualizer needs no OpenCV")
def test_env_says_that_opencv_is_absent_and_what_needs_it(project_folder: Path) -> None:
    code = "from detr_d2.cli import main; sys.exit(main(['env']))"

    done = run_without_opencv(code, project_folder)

    [line] = [line for line in done.stdout.splitlines() if "opencv" in line]
    assert "not installed" in line and "Visualizer" in line and "pip install opencv-python-headless" in line


def test_importing_the_package_does_not_wait_for_matplotlib(project_folder: Path) -> None:
    code = "import detr_d2; sys.exit('matplotlib.figure' in sys.modules and 'drawing was imported')"

    assert run_without_opencv(code, project_folder).returncode == 0
