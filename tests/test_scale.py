"""The files of docs/scale.md that people copy: they are shell scripts, and every option in them exists."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from detr_d2.training.launching import team_of

from detectron2.engine import default_argument_parser


@pytest.fixture
def script(project_folder: Path) -> Path:
    """The SLURM script."""
    return project_folder / "examples" / "slurm" / "train.sbatch"


def test_the_slurm_script_starts_one_torchrun_on_each_machine(script: Path, tmp_path: Path) -> None:
    """Run as on the first of two machines, with programs that only write down their arguments."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    for name, does in (("scontrol", "printf 'first\\nsecond\\n'"), ("srun", "printf '%s\\n' \"$@\" > said")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "x", "SLURM_SUBMIT_DIR": str(tmp_path)}
    env = {**os.environ, **slurm, "SLURM_GPUS_ON_NODE": "4", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    given = ["--config-file", "configs/detr_R50.yaml", "DATASETS.TRAIN", "('a b',)"]

    subprocess.run(["bash", str(script), *given], env=env, check=True, cwd=tmp_path)

    said = (tmp_path / "said").read_text().splitlines()
    assert said[:2] == ["--kill-on-bad-exit=1", "torchrun"]
    torchrun, ours = said[2 : said.index("train_net.py")], said[said.index("train_net.py") + 1 :]
    from torch.distributed.run import get_args_parser

    launched = get_args_parser().parse_args([*torchrun, "train_net.py"])
    assert (launched.nnodes, launched.nproc_per_node, launched.rdzv_endpoint) == ("2", "4", "first:20077")
    args = default_argument_parser().parse_args(ours)
    assert args.resume and args.config_file == given[1] and args.opts == given[2:]


def test_torchruns_of_two_machines_are_one_team(script: Path) -> None:
    environment = {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": "6", "LOCAL_RANK": "2"}
    meeting = {"MASTER_ADDR": "first", "MASTER_PORT": "20077", "SLURM_STEP_NUM_TASKS": "2"}

    team = team_of(default_argument_parser().parse_args([]), environment | meeting)

    assert (team.local, team.total, team.first, team.local_rank) == (4, 8, 4, 2)


def test_commands_of_the_page_parse(project_folder: Path) -> None:
    text = (project_folder / "docs" / "scale.md").read_text(encoding="utf-8")
    commands = re.findall(r"python train_net\.py ([^`\n]*)", text)

    for command in commands:
        words = re.sub(r"\b[NMR]\b", "1", command).replace("HOST:PORT", "host:1").replace("…", "").split()
        words += ["x.yaml"] if words[-1] == "--config-file" else []
        default_argument_parser().parse_args(words)

    assert commands
