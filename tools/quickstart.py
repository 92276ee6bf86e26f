#!/usr/bin/env python
"""The whole way in minutes: labels as CVAT exports them, a dataset, boxes, masks, panoptic quality, pictures.

Each step is the command that one would type oneself; it is shown, and what it prints goes to a log file.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate
from tqdm import tqdm

from detr_d2.config import get_config_file, load_config
from detr_d2.data import dataset_metadata
from detr_d2.errors import UserError, run_command
from detr_d2.prediction import DetrPredictor
from detr_d2.training.plot import draw_runs, read_runs
from detr_d2.training.stopping import terminated_by_signal
from detr_d2.visualization import draw_per_class, save_side_by_side

from detectron2.data import DatasetCatalog

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLE = """\
examples:
  python tools/quickstart.py --output runs/quickstart            # about ten minutes on two CPU cores
  python tools/quickstart.py --output runs/quickstart --short    # a minute or two: shows that everything works
"""
NUM_PICTURES = 8
#: Evaluations and what comes after the training take about so much of the time of its iterations.
OTHER_TIME = 0.15


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/quickstart"), metavar="DIR", help="(default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and of the training (default: 0)")
    parser.add_argument("--short", action="store_true", help="few scenes and iterations; the model learns little")
    return parser


class Stage(NamedTuple):
    """A training of the quickstart: its config, how many iterations it has, and what differs from the config."""

    config_file: str
    iterations: int
    changes: list[str]


class Progress(NamedTuple):
    """Iterations done, the last one's total loss, and seconds an iteration, if known."""

    done: int
    loss: float
    seconds: float | None


class Quickstart:
    """The steps, in order; each leaves its files below ``output``.

    Args:
        output: the folder; what an earlier quickstart left in it is replaced.
        seed: of the scenes and of the training.
        short: few scenes and iterations.
    """

    def __init__(self, output: Path, seed: int, short: bool) -> None:
        self.output, self.seed, self.short = output, seed, short
        self.stage1, self.stage2 = output / "stage1", output / "stage2"
        self.exports, self.dataset = output / "exports", output / "yard"
        self.step = 0
        self.started = time.monotonic()
        self.iterations_left = 0  # of all stages

    def run(self) -> None:
        """All steps, then the last screen."""
        self.output.mkdir(parents=True, exist_ok=True)
        print("How long it takes on this machine is said as soon as the training's speed is known.")
        boxes, masks = self.stage("detr_yard.yaml", 30), self.stage("detr_panoptic_yard.yaml", 20)
        self.iterations_left = boxes.iterations + masks.iterations
        self.make_exports()
        self.prepare()
        self.train("boxes over things and stuff", boxes, self.stage1)
        self.train("masks, and the boxes trained on with them", masks, self.stage2)
        self.evaluate()
        self.draw()
        self.last_screen(time.monotonic() - self.started)

    def make_exports(self) -> None:
        train, val = (60, 12) if self.short else (600, 60)
        self.say("labels of a made-up construction yard, as people would have exported them from CVAT")
        command = self.detr_d2("yard", self.exports, "--layout", "cvat", "--train", train, "--val", val)
        self.execute([*command, "--seed", str(self.seed)], "yard.txt")

    def prepare(self) -> None:
        self.say("a dataset of them: merged, fixed, split; then looked through for faults")
        sources = ["--cvat", self.exports / "cvat", "--stuff", "masks", self.exports / "stuff"]
        chosen = ["--overlap", "last", "--val", "0.1", "--seed", self.seed]
        self.execute(self.detr_d2("prepare", *sources, *chosen, "--out", self.dataset), "prepare.txt")
        self.execute(self.detr_d2("check", self.dataset), "check.txt")

    @staticmethod
    def detr_d2(*words: object) -> list[str]:
        """The command line of a subcommand."""
        return [sys.executable, "-m", "detr_d2", *map(str, words)]

    def stage(self, config: str, short_iterations: int) -> Stage:
        """A training, its length that of its config unless the quickstart is short."""
        file = get_config_file(f"quickstart/{config}")
        if not self.short:
            return Stage(file, load_config(file).SOLVER.MAX_ITER, [])
        changes = ["SOLVER.MAX_ITER", str(short_iterations), "TEST.EVAL_PERIOD", "0"]
        return Stage(file, short_iterations, changes)

    def train(self, title: str, stage: Stage, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        overrides = [*self.overrides(folder), *stage.changes]
        load_config(stage.config_file, overrides)  # says what is wrong before a process is started
        self.say(f"training: {title}")
        command = [sys.executable, str(PROJECT / "train_net.py"), "--config-file", stage.config_file, *overrides]
        self.execute(command, f"{folder.name}.txt", folder / "metrics.json", stage.iterations)
        self.iterations_left -= stage.iterations

    def evaluate(self) -> None:
        self.say("panoptic quality on scenes that the model has never seen")
        file = get_config_file("quickstart/detr_panoptic_yard.yaml")
        command = [sys.executable, str(PROJECT / "train_net.py"), "--config-file", file, "--eval-only"]
        self.execute([*command, *self.overrides(self.output / "evaluation", self.stage2)], "evaluation.txt")

    def draw(self) -> None:
        self.say("pictures: what the model sees, beside the ground truth; curves; the quality of each class")
        file = get_config_file("quickstart/detr_panoptic_yard.yaml")
        cfg = load_config(
            file, [*self.overrides(self.output / "evaluation", self.stage2), "MODEL.DETR.INSTANCE_ON", "False"]
        )
        predictor = DetrPredictor(cfg)
        scenes = DatasetCatalog.get("yard_val")[:NUM_PICTURES]
        pictures = self.output / "pictures"
        save_side_by_side(predictor, tqdm(scenes, unit="image"), dataset_metadata("yard_val"), pictures)
        runs = read_runs([f"stage 1: boxes={self.stage1}", f"stage 2: masks={self.stage2}"])
        draw_runs(runs, pictures / "curves.png")
        draw_per_class(self.quality_file(), pictures / "per_class.png")

    def overrides(self, folder: Path, weights: Path | None = None) -> list[str]:
        """What differs from the config files: where things are, and the seed."""
        weights = weights or (self.stage1 if folder == self.stage2 else None)
        values = ["OUTPUT_DIR", str(folder), "DATASETS.REGISTER", json.dumps([str(self.dataset / "register.yaml")])]
        if weights is not None:
            values += ["MODEL.WEIGHTS", str(weights / "model_final.pth")]
        return [*values, "SEED", str(self.seed)]

    def quality_file(self) -> Path:
        return self.output / "evaluation" / "inference" / "yard_val" / "panoptic_quality.json"

    def last_screen(self, seconds: float) -> None:
        """The table, where the pictures are, and what to do next."""
        quality = json.loads(self.quality_file().read_text())
        rows = [[name, *(quality[name][key] for key in ("PQ", "SQ", "RQ", "N"))] for name in ("All", "Things", "Stuff")]
        print(f"\n{tabulate(rows, headers=['', 'PQ', 'SQ', 'RQ', 'classes'], floatfmt='.1f')}\n")
        if self.short:
            print("This was the short form, and the model has hardly learnt. Leave out --short, and it does.")
        print(f"The data      {self.dataset / 'report.html'}: what went in, what was dropped and why")
        print(f"The report    {self.quality_file().with_name('report.html')}: which classes fail, how, and on what")
        print(f"Pictures      {self.output / 'pictures'}: scenes, curves.png, per_class.png")
        weights = self.stage2 / "model_final.pth"
        python = os.path.relpath(sys.executable) if PROJECT in Path(sys.executable).parents else sys.executable
        print(f"Any photo     {shlex.quote(python)} -m detr_d2 predict {weights} PHOTO.jpg --out drawn")
        print("Your own data datasets/README.md, then train_net.py with configs/detr_R50.yaml (boxes)")
        print("              and configs/detr_panoptic_R50.yaml (masks)")
        print(f"Time          {seconds / 60:.1f} minutes")

    def say(self, title: str) -> None:
        self.step += 1
        print(f"\n[{self.step}/6] {title}", flush=True)

    def execute(self, command: list[str], log: str, metrics: Path | None = None, iterations: int = 0) -> None:
        """Run a command with its output in ``log``; a bar follows the iterations in ``metrics``.

        Raises:
            UserError: it failed; the message ends with the last lines of its output.
        """
        shown = ["python" if part == sys.executable else part for part in command]
        print("  " + shlex.join(str(part).removeprefix(f"{PROJECT}/") for part in shown), flush=True)
        log_file = self.output / "logs" / log
        log_file.parent.mkdir(exist_ok=True)
        with log_file.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=_environment())
            try:
                follow(process, metrics, iterations, self.iterations_left - iterations, self.started)
            finally:
                process.terminate()
                process.wait()
        if process.returncode:
            last = "\n".join(log_file.read_text(errors="replace").splitlines()[-15:])
            raise UserError(
                f"the command above failed (exit code {process.returncode}). The end of {log_file}:\n{last}"
            )


def follow(process: subprocess.Popen[bytes], metrics: Path | None, iterations: int, later: int, started: float) -> None:
    """Wait for a process; with ``metrics``, a bar shows the iterations done and how long the whole takes.

    Args:
        process: a training, or anything else.
        metrics: the training's ``metrics.json``.
        iterations: of this training.
        later: iterations of the trainings after it.
        started: when the quickstart was, by the monotonic clock.
    """
    if metrics is None:
        process.wait()
        return
    is_said = False
    # smoothing=0: the metrics come twenty iterations at a time, which isn't the speed of the moment.
    with tqdm(total=iterations, unit="iteration", mininterval=1.0, smoothing=0, file=sys.stdout) as bar:
        while process.poll() is None:
            time.sleep(0.5)
            progress = last_iteration(metrics)
            bar.set_postfix({"loss": f"{progress.loss:.2f}"} if progress.done else {}, refresh=False)
            bar.update(progress.done - bar.n)
            if progress.seconds is not None and not is_said:
                left = iterations - progress.done + later
                minutes = (time.monotonic() - started + (1 + OTHER_TIME) * left * progress.seconds) / 60
                bar.write(f"  at this speed the whole quickstart takes about {max(1, round(minutes))} min", sys.stdout)
                is_said = True
        if process.returncode == 0:
            bar.update(iterations - bar.n)


def last_iteration(metrics: Path) -> Progress:
    """What Detectron2's ``metrics.json`` says of the last iteration in it."""
    lines = metrics.read_text().splitlines() if metrics.is_file() else []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
            return Progress(entry["iteration"] + 1, entry["total_loss"], entry.get("time"))
        except (ValueError, KeyError):  # half written, or of an evaluation
            continue
    return Progress(0, 0.0, None)


def _environment() -> dict[str, str]:
    """The commands' environment: they find this checkout from any folder."""
    path = os.pathsep.join(part for part in (str(PROJECT), os.environ.get("PYTHONPATH")) if part)
    return os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


def main() -> None:
    args = get_parser().parse_args()
    with terminated_by_signal():  # or the training would go on without the quickstart
        Quickstart(args.output, args.seed, args.short).run()


if __name__ == "__main__":
    sys.exit(run_command(main))
