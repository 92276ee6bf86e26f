"""docs/detectron2.md: its lines run in their order, on both backends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from detr_d2.backend import backend_report
from detr_d2.yard import write_yard

PAGE = Path(__file__).resolve().parents[2] / "docs" / "detectron2.md"
BLOCK = re.compile(r"(?:<!-- needs (?P<needs>.+?) -->\n)?```python\n(?P<code>.+?)```", re.DOTALL)
BLOCKS = [(match["code"], match["needs"] or "") for match in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]

RUN_ALL = """
import json, sys, traceback
names, found = {}, []
for code in json.load(open("blocks.json")):
    if code is not None and (not found or "failed" not in found[-1]):
        try:
            exec(code, names)
            found.append("ran")
        except BaseException:
            found.append("failed: " + traceback.format_exc())
    else:
        found.append("left out")
json.dump(found, open("found.json", "w"))
"""


def reason_to_leave_out(needs: str) -> str:
    if needs and backend_report().name != "installed":
        return f"needs {needs}"
    if "panopticapi" in needs:
        pytest.importorskip("panopticapi")
    return ""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, project_folder: Path) -> list[str]:
    """For each block whether it ran, in a folder that has nothing but ``datasets/yard``."""
    folder = tmp_path_factory.mktemp("page")
    write_yard(folder / "datasets" / "yard", train=6, val=3, width=160, height=128, seed=0)
    chosen = [None if reason_to_leave_out(needs) else code for code, needs in BLOCKS]
    (folder / "blocks.json").write_text(json.dumps(chosen))
    environment = os.environ | {"PYTHONPATH": str(project_folder), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", RUN_ALL]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number: int, outcomes: list[str]) -> None:
    if reason := reason_to_leave_out(BLOCKS[number][1]):
        pytest.skip(reason)

    assert outcomes[number] == "ran", outcomes[number]


def test_every_block_is_found() -> None:
    assert len(BLOCKS) == PAGE.read_text(encoding="utf-8").count("```python") >= 9


@pytest.mark.skipif(backend_report().name != "installed", reason="only Detectron2 has DETECTRON2_ENV_MODULE")
def test_environment_variables_make_detectron2s_tools_know_the_project(
    yard_folder: Path, project_folder: Path, tmp_path: Path
) -> None:
    config = project_folder / "configs" / "quickstart" / "detr_panoptic_yard.yaml"
    tool = (
        "from detectron2.config import get_cfg\n"
        "from detectron2.data import build_detection_test_loader\n"
        "from detectron2.modeling import build_model\n"
        "cfg = get_cfg()\n"
        f"cfg.merge_from_file({str(config)!r})\n"
        "cfg.merge_from_list(['DATASETS.REGISTER', '[]', 'MODEL.WEIGHTS', ''])\n"
        "cfg.freeze()\n"
        "loader = build_detection_test_loader(cfg, 'yard_val')\n"
        "print(type(build_model(cfg)).__name__, len(loader))\n"
    )
    environment = os.environ | {
        "PYTHONPATH": str(project_folder),
        "DETECTRON2_ENV_MODULE": "detr_d2.detectron2_tools",
        "DETR_D2_REGISTER": str(yard_folder / "register.yaml"),
    }

    done = subprocess.run([sys.executable, "-c", tool], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "DetrPanoptic 3"
