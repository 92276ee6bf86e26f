#!/usr/bin/env python
"""Kills a training many times, at moments by chance, resumes it each time, and compares it with one that ran through.

The moments are spread over the whole of the training by its own progress, whatever else the machine has to do.
The last and the best checkpoint have to be equal to the last bit, with all that is in them: weights, optimizer,
schedule, the place in the order of images. The model is very small, and it trains on a generated yard.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tabulate import tabulate
from tqdm import tqdm

from detr_d2.arguments import whole_number
from detr_d2.errors import run_command
from detr_d2.yard import write_yard

EXAMPLES = """\
examples:
  python tools/kill_and_resume.py --kills 30
  python tools/kill_and_resume.py --kills 10 --stage masks --workers 2 --processes 2 --out /tmp/killed
"""
PROJECT = Path(__file__).resolve().parent.parent
SMALL = [
    *("MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.RES5_DILATION", "2", "MODEL.DETR.PRE_NORM", "False"),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.DETR.HIDDEN_DIM", "32", "MODEL.DETR.NHEADS", "4"),
    *("MODEL.DETR.DIM_FEEDFORWARD", "32", "MODEL.DETR.ENC_LAYERS", "1", "MODEL.DETR.DEC_LAYERS", "2"),
    *("MODEL.DETR.NUM_QUERIES", "12", "MODEL.DETR.DROPOUT", "0.1", "INPUT.COLOR_JITTER.ENABLED", "True"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "1", "SOLVER.CHECKPOINT_PERIOD", "5"),
    *("SOLVER.CHECKPOINT_KEEP", "2", "TEST.EVAL_PERIOD", "10", "TEST.SCENES", "0", "TEST.BOOTSTRAP", "10"),
    *("SEED", "7"),
]
STAGES = {
    "boxes": ["MODEL.DETR.MASK_ON", "False"],
    "masks": ["MODEL.DETR.MASK_ON", "True", "MODEL.DETR.FREEZE_DETECTOR", "True"],
}
#: So many of the kills come before a run trains.
STARTING_PART = 0.15
SECONDS_UNLOCKED = 60


class Kill(NamedTuple):
    """What a run was doing when it was killed, and how many iterations its last checkpoint had."""

    moment: str
    saved: int


class Times(NamedTuple):
    """Seconds of a whole run: until it trains, and while it does, evaluations included."""

    start: float
    training: float


def differences(first: Any, second: Any, place: str = "") -> list[str]:
    """Where the contents of two checkpoints aren't the same: names of entries."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [place]
    if isinstance(first, Mapping) and isinstance(second, Mapping) and list(first) == list(second):
        return [found for key in first for found in differences(first[key], second[key], f"{place}/{key}")]
    if isinstance(first, list | tuple) and type(first) is type(second) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [found for i, (one, other) in pairs for found in differences(one, other, f"{place}/{i}")]
    return [] if type(first) is type(second) and first == second else [place]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=whole_number(1, 10_000), default=30, help="how many (default: %(default)s)")
    parser.add_argument(
        "--iterations", type=whole_number(20, 100_000), default=200, help="of the training (%(default)s)"
    )
    parser.add_argument("--stage", choices=list(STAGES), default="boxes", help="(default: %(default)s)")
    parser.add_argument(
        "--workers", type=whole_number(0, 64), default=2, help="of the data loader (default: %(default)s)"
    )
    parser.add_argument("--processes", type=whole_number(1, 64), default=1, help="that train (default: %(default)s)")
    parser.add_argument("--chance", type=int, default=0, help="seed of the moments (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/killed"), help="a new folder (default: %(default)s)")
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"--out {args.out} exists; name another folder")
    write_yard(args.out / "yard", train=6, val=3, width=160, height=128, seed=0)
    command = _command(args)
    times = _run_through(command, args.out / "whole")
    kills = _kill_often(command, args.out / "killed", args.kills, times, random.Random(args.chance))
    return _compare(args.out, kills, args)


def _command(args: argparse.Namespace) -> list[str]:
    """Of the training; a folder is missing behind it."""
    register = str((args.out / "yard" / "register.yaml").resolve())
    base = [sys.executable, "-W", "ignore", str(PROJECT / "train_net.py")]
    base += ["--config-file", str(PROJECT / "configs" / "quickstart" / "detr_yard.yaml"), "--resume"]
    keys = [*SMALL, "DATASETS.REGISTER", f"['{register}']", "DATALOADER.NUM_WORKERS", str(args.workers)]
    keys += ["SOLVER.MAX_ITER", str(args.iterations)]
    if args.stage == "masks":
        first = args.out / "boxes"
        _run_through([*base, *keys, *STAGES["boxes"], "SOLVER.MAX_ITER", "20"], first)
        keys += [*STAGES["masks"], "MODEL.WEIGHTS", str((first / "model_final.pth").resolve())]
    if args.processes > 1:
        base += ["--num-gpus", str(args.processes), "--dist-url", "auto", "MODEL.DEVICE", "cpu"]
    return [*base, *keys, *([] if args.stage == "masks" else STAGES["boxes"])]


def _start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """The training, as the leader of a group of processes."""
    env = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    with open(f"{folder}.txt", "ab") as output:
        return subprocess.Popen(
            [*command, "OUTPUT_DIR", str(folder.resolve())],
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,
        )


def _run_through(command: list[str], folder: Path) -> Times:
    process, begun, trains = _start(command, folder), time.monotonic(), 0.0
    while process.poll() is None:
        if not trains and "Starting training" in Path(f"{folder}.txt").read_text(errors="replace"):
            trains = time.monotonic()
        time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"the training ended with exit code {process.returncode}; see {folder}.txt")
    return Times(trains - begun, time.monotonic() - trains)


def _kill_often(command: list[str], folder: Path, count: int, times: Times, chance: random.Random) -> list[Kill]:
    """Resumes until the training is complete."""
    kills = []
    iterations, period = _lengths(command)
    # By iterations, as seconds are worth less on a machine that has become busier.
    targets = sorted(chance.uniform(0, iterations - 2 * period) for _ in range(count))
    for target in tqdm(targets, unit="kill"):
        process, seen = _start(command, folder), Path(f"{folder}.txt").stat().st_size
        if chance.random() < STARTING_PART:
            seconds = chance.uniform(0, times.start)
        else:
            _wait_for_training(process, folder, seen, target)
            seconds = chance.uniform(0, times.training * period / iterations)  # on the way to the next checkpoint
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL) if chance.random() < 0.5 else process.kill()
            process.wait()
        kills.append(Kill(_moment(folder, seen, process.returncode), _saved(folder)))
        _wait_for_group(process.pid)
    process = _start(command, folder)
    if process.wait():
        raise RuntimeError(f"the last run ended with exit code {process.returncode}; see {folder}.txt")
    return kills


def _wait_for_training(process: subprocess.Popen[bytes], folder: Path, seen: int, target: float) -> None:
    """Until the output, behind what was seen before, says that the training begins, and a checkpoint is that far."""
    output = Path(f"{folder}.txt")
    while process.poll() is None and b"Starting training" not in output.read_bytes()[seen:]:
        time.sleep(0.02)
    while process.poll() is None and _saved(folder) < target:
        time.sleep(0.02)


def _saved(folder: Path) -> int:
    """Iterations that the last checkpoint has; 0 where there is none yet."""
    last = folder / "last_checkpoint"
    number = re.search(r"\d+", last.read_text(encoding="utf-8")) if last.exists() else None
    return int(number[0]) + 1 if number else 0


def _lengths(command: list[str]) -> tuple[int, int]:
    """Iterations of a whole training, and from one checkpoint to the next."""
    keys = dict(itertools.pairwise(command))
    return int(keys["SOLVER.MAX_ITER"]), int(keys["SOLVER.CHECKPOINT_PERIOD"])


def _moment(folder: Path, seen: int, code: int) -> str:
    """What a run did last, from its output behind what was seen before."""
    if code != -signal.SIGKILL:
        return "complete before the kill" if code == 0 else f"exit code {code}"
    text = Path(f"{folder}.txt").read_bytes()[seen:].decode(errors="replace")
    if list(folder.glob(".model_*")):
        return "writing a checkpoint"
    if text.rfind("Start inference") > text.rfind("in csv format"):
        return "evaluating"
    return "training" if "Starting training" in text else "starting"


def _wait_for_group(group: int) -> None:
    """Workers of a process that was killed notice it within seconds; a training in several processes holds its lock."""
    deadline = time.monotonic() + SECONDS_UNLOCKED
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)


def _compare(out: Path, kills: list[Kill], args: argparse.Namespace) -> int:
    rows, wrong = [], []
    for name in ("model_final.pth", "model_best.pth"):
        if not (out / "whole" / name).exists():
            continue
        whole, killed = (torch.load(out / run / name, weights_only=True) for run in ("whole", "killed"))
        found = differences(whole, killed)
        rows.append([name, len(whole["model"]), len(found)])
        wrong += found
    moments = dict(Counter(kill.moment for kill in kills))
    print(f"{args.kills} kills, {args.stage}, {args.workers} workers, {args.processes} processes; when: {moments}")
    print(f"iterations of {args.iterations} that were saved at each kill: {[kill.saved for kill in kills]}")
    print(tabulate(rows, headers=["file", "tensors of the model", "differences, of all entries"], tablefmt="github"))
    print("\n".join(wrong[:10]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
