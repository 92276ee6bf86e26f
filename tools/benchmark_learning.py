#!/usr/bin/env python
"""How soon trainings learn: box AP, mask loss and PQ against processor time and images seen, over several seeds.

Each course is a config, or several with + between them: stages, each of which starts from the weights of the one
before. Courses take turns, seed by seed. Evaluations don't count as time of the training. Peers are trained on the data
of the first course, as long as it took with the same seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking.measure import in_fresh_process, machine
from benchmarking.peer_training import PEERS, train_peer
from benchmarking.report import deliver, get_parser, spread, table, use_threads
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detr_d2.config import load_config
from detr_d2.errors import UserError, run_command
from detr_d2.training.evaluation_log import FILE, read_evaluations

from detectron2.engine import HookBase

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLE = """\
examples:
  python tools/benchmark_learning.py configs/quickstart/detr_yard.yaml --seeds 0 1 2
  python tools/benchmark_learning.py configs/quickstart/detr_yard.yaml+configs/quickstart/detr_panoptic_yard.yaml \\
      --variant 'no denoising: MODEL.DETR.DENOISING_GROUPS 0' --minutes 5 --write docs/learning.md
  python tools/benchmark_learning.py configs/quickstart/detr_yard.yaml+configs/quickstart/detr_panoptic_yard.yaml \\
      --peer "transformers' Mask2Former" --peer-rate 0.0005

A variant is every course once more with other keys; 'LEFT OUT: ...' and 'ALONE: ...' are just names. With --minutes all
courses are stretched to about so much processor time, their schedules with them.
"""
BOX_AP, MASK_LOSS, PQ = "bbox/AP", "validation/mask", "panoptic_seg/PQ"
TRIED = 12
"""Steps that say how long one takes, of which the first are slower."""


@dataclass(frozen=True)
class Course:
    """A training, of one stage or more.

    Args:
        name: in table and plot.
        configs: files, one a stage.
        changes: KEY VALUE ... for all stages.
    """

    name: str
    configs: tuple[str, ...]
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """An evaluation: processor seconds of the training and images it has seen, and what was found."""

    seconds: float
    images: int
    results: dict[str, float]


class Clock(HookBase):
    """Processor seconds of the training's steps, added up for each of them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_step(self) -> None:
        self._start = time.process_time()

    def after_step(self) -> None:
        taken = time.process_time() - self._start
        self.seconds.append(taken + (self.seconds[-1] if self.seconds else 0.0))


def get_arguments() -> argparse.Namespace:
    parser = get_parser(__doc__, EXAMPLE)
    parser.add_argument("courses", nargs="*", metavar="CONFIG[+CONFIG]", help="config files of stages, + between them")
    text = "what an earlier --json wrote, into the same table; NAME goes behind its trainings' names; repeatable"
    parser.add_argument("--earlier", action="append", default=[], metavar="FILE[:NAME]", help=text)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="(default: 0)")
    parser.add_argument("--minutes", type=float, metavar="M", help="of processor time (default: as the configs say)")
    parser.add_argument("--variant", action="append", default=[], metavar="'NAME: KEY VALUE ...'", help="repeatable")
    parser.add_argument("--peer", action="append", default=[], choices=PEERS, help="repeatable; needs transformers")
    parser.add_argument("--peer-rate", type=float, default=2e-4, metavar="RATE", help="of learning (%(default)s)")
    parser.add_argument("--evaluations", type=int, default=5, metavar="N", help="of each stage (default: 5)")
    parser.add_argument("--pq", type=float, default=80.0, metavar="PQ", help="say when it is reached (default: 80)")
    parser.add_argument("--register", metavar="FILE", help="register.yaml of the data (default: as the configs say)")
    parser.add_argument("--output", type=Path, default=Path("runs/learning"), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves there")
    return parser.parse_args()


def main() -> int:
    args = get_arguments()
    courses = list(courses_of(args.courses, args.variant))
    shared = ["DATASETS.REGISTER", str([str(Path(args.register).resolve())])] if args.register else []
    if args.short:
        shared += ["SOLVER.MAX_ITER", "4", "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "1"]
    runs = earlier_runs(args.earlier)
    if args.peer and not courses:
        raise UserError("A peer is trained as long as a course: name its CONFIG.")
    for course in courses:
        runs.setdefault(course.name, [])
    for seed in args.seeds:
        for course in courses:
            print(f"{course.name}, seed {seed}", flush=True)
            folder = args.output / _folder_name(course.name) / f"seed{seed}"
            keys = (*shared, *course.changes, "SEED", str(seed))
            runs[course.name].append(take(course, keys, folder, args))
        for peer in args.peer:
            print(f"{peer}, seed {seed}", flush=True)
            # Of the last stage, whose data have masks.
            keys = (*shared, "SEED", str(seed), "OUTPUT_DIR", str(args.output / _folder_name(peer) / f"seed{seed}"))
            seconds = runs[courses[0].name][-1][-1].seconds
            learning = (courses[0].configs[-1], list(keys), seconds, args.evaluations, args.threads, args.peer_rate)
            runs.setdefault(peer, []).append(in_fresh_process(learn_peer, peer, *learning))
    rows = [summary(name, points, args.pq) for name, points in runs.items()]
    title = (
        "Mean and spread (standard deviation) over seeds; minutes of processor time, evaluations left out. "
        f"{machine(args.threads)}."
    )
    figures = {name: [[asdict(point) for point in run] for run in found] for name, found in runs.items()}
    if args.plot:
        draw(runs, args.plot)
    deliver("benchmark_learning", f"{title}\n\n{table(rows)}", figures, args)
    return 0


def earlier_runs(named: Sequence[str]) -> dict[str, list[list[Point]]]:
    """What ``--json`` wrote in earlier runs, as FILE or FILE:NAME; seeds of one training come together.

    Raises:
        UserError: a file isn't there.
    """
    runs: dict[str, list[list[Point]]] = {}
    for text in named:
        path, _, suffix = text.partition(":")
        if not Path(path).is_file():
            raise UserError(f"--earlier {text}: there is no file {path}; give what --json wrote, as FILE or FILE:NAME.")
        for name, found in json.loads(Path(path).read_text(encoding="utf-8")).items():
            title = f"{name}, {suffix}" if suffix else name
            runs.setdefault(title, []).extend([Point(**point) for point in run] for run in found)
    return runs


def courses_of(named: Sequence[str], variants: Sequence[str]) -> Iterator[Course]:
    """Each course as it is, then with the changes of each variant.

    Raises:
        UserError: a variant isn't a name, a colon, and keys with values.
    """
    for text in named:
        configs = tuple(text.split("+"))
        plain = Course(" + ".join(f"{Path(path).parent.name}/{Path(path).stem}" for path in configs), configs)
        yield plain
        for variant in variants:
            name, colon, keys = variant.partition(":")
            words = tuple(keys.split())
            if not colon or not words or len(words) % 2:
                raise UserError(
                    f"--variant {variant!r} isn't a name, a colon, and keys with values; give for example "
                    "'no denoising: MODEL.DETR.DENOISING_GROUPS 0'."
                )
            yield Course(f"{plain.name}, {name.strip()}", configs, words)


def take(course: Course, keys: Sequence[str], folder: Path, args: argparse.Namespace) -> list[Point]:
    """All stages of a course, with a process for each; points go on from one stage to the next."""
    points, weights = list[Point](), ""
    each = None if args.minutes is None else 60 * args.minutes / len(course.configs)
    for number, config in enumerate(course.configs, 1):
        output = folder / f"stage{number}"
        options = [*keys, "OUTPUT_DIR", str(output), *(["MODEL.WEIGHTS", weights] if weights else [])]
        seconds, images = (points[-1].seconds, points[-1].images) if points else (0.0, 0)
        found = in_fresh_process(learn, config, options, each, args.evaluations, args.threads)
        points += [Point(seconds + one.seconds, images + one.images, one.results) for one in found]
        weights = str(output / "model_final.pth")
    return points


def learn(config: str, options: list[str], seconds: float | None, evaluations: int, threads: int) -> list[Point]:
    """One training, in this process.

    Args:
        config: its file.
        options: KEY VALUE ...
        seconds: of processor time that it is to take, about; None: as long as the config says.
        evaluations: how many.
        threads: of torch.
    """
    sys.path.insert(0, str(PROJECT))
    from train_net import Trainer

    use_threads(threads)
    cfg = load_config(config, options)
    if seconds is not None:
        stretch_(cfg, max(evaluations, round(seconds / seconds_of_a_step(Trainer, cfg))))
    cfg.TEST.EVAL_PERIOD, cfg.TEST.SCENES, cfg.TEST.BOOTSTRAP = max(1, cfg.SOLVER.MAX_ITER // evaluations), 0, 0
    cfg.TEST.BEST_CHECKPOINT.METRIC = ""
    cfg.freeze()
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    Path(cfg.OUTPUT_DIR, FILE).unlink(missing_ok=True)
    trainer, clock = Trainer(cfg), Clock()
    trainer.register_hooks([clock])
    trainer._hooks.insert(0, trainer._hooks.pop())  # before what evaluates
    trainer.resume_or_load(resume=False)
    trainer.train()
    lines = read_evaluations(Path(cfg.OUTPUT_DIR, FILE))
    return [_point(line, clock.seconds, cfg.SOLVER.IMS_PER_BATCH) for line in lines]


def learn_peer(
    name: str, config: str, options: list[str], seconds: float, evaluations: int, threads: int, rate: float
) -> list[Point]:
    """One training of a peer, in this process; see ``benchmarking.peer_training.train_peer``."""
    use_threads(threads)
    cfg = load_config(config, options)
    cfg.MODEL.DETR.INSTANCE_ON, cfg.TEST.BOOTSTRAP, cfg.TEST.BOUNDARY_PQ = False, 0, False
    cfg.freeze()
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    trained = train_peer(name, cfg, seconds, evaluations, rate)
    return [Point(spent, steps * cfg.SOLVER.IMS_PER_BATCH, {PQ: found[PQ]}) for spent, steps, found in trained]


def _point(line: dict[str, Any], seconds: list[float], batch: int) -> Point:
    done = min(line["iteration"] + 1, len(seconds))
    results = {name: line[name] for name in (BOX_AP, MASK_LOSS, PQ) if line.get(name) is not None}
    return Point(seconds[done - 1], done * batch, results)


def seconds_of_a_step(trainer_class: Any, cfg: Any) -> float:
    """The median of some steps of a training that leaves nothing but a folder."""
    short = cfg.clone()
    short.SOLVER.MAX_ITER, short.SOLVER.STEPS, short.DATASETS.TEST = TRIED, (), ()
    short.OUTPUT_DIR = f"{cfg.OUTPUT_DIR}/timing"
    short.freeze()
    Path(short.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    trainer, clock = trainer_class(short), Clock()
    trainer.register_hooks([clock])
    trainer.train()
    return statistics.median(np.diff(clock.seconds)[TRIED // 3 :])


def stretch_(cfg: Any, iterations: int) -> None:
    """Make a training so long, and its schedule with it."""
    factor = iterations / cfg.SOLVER.MAX_ITER
    cfg.SOLVER.STEPS = tuple(min(iterations - 1, max(1, round(step * factor))) for step in cfg.SOLVER.STEPS)
    cfg.SOLVER.MAX_ITER = iterations


def summary(name: str, runs: list[list[Point]], goal: float) -> dict[str, Any]:
    """A row of the table: what the last points say."""
    last = [run[-1] for run in runs]
    times = [minutes_to(run, goal) for run in runs]
    reached = [one for one in times if one is not None]
    return {
        "training": name,
        "seeds": len(runs),
        "minutes": spread([point.seconds / 60 for point in last]),
        "images": round(statistics.mean(point.images for point in last)),
        "box AP": spread([point.results[BOX_AP] for point in last if BOX_AP in point.results]),
        "mask loss": spread([point.results[MASK_LOSS] for point in last if MASK_LOSS in point.results], 4),
        "PQ": spread([point.results[PQ] for point in last if PQ in point.results]),
        f"minutes to PQ {goal:g}": spread(reached) + (f" ({len(reached)} of {len(runs)})" if None in times else ""),
    }


def minutes_to(run: list[Point], goal: float) -> float | None:
    """Minutes until PQ has reached the goal, on a straight line between evaluations; None: it hasn't."""
    before: Point | None = None
    for point in run:
        if point.results.get(PQ, -1.0) >= goal:
            if before is None:
                return point.seconds / 60
            share = (goal - before.results[PQ]) / (point.results[PQ] - before.results[PQ])
            return (before.seconds + share * (point.seconds - before.seconds)) / 60
        before = point if PQ in point.results else None
    return None


def draw(runs: dict[str, list[list[Point]]], path: Path) -> None:
    """Box AP and PQ against minutes of processor time: a line for each training, thin ones for its seeds."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, metric in zip(figure.subplots(1, 2), (BOX_AP, PQ), strict=True):
        for number, (name, found) in enumerate(runs.items()):
            curves = [[(p.seconds / 60, p.results[metric]) for p in run if metric in p.results] for run in found]
            curves = [curve for curve in curves if curve]
            for curve in curves:
                axis.plot(*zip(*curve, strict=True), color=f"C{number}", linewidth=0.5, alpha=0.6)
            if curves and len({len(curve) for curve in curves}) == 1:
                axis.plot(*np.mean(curves, axis=0).T, "o-", color=f"C{number}", markersize=3, label=name)
        axis.set(xlabel="minutes of processor time", ylabel={BOX_AP: "box AP", PQ: "PQ"}[metric], xlim=(0, None))
        axis.grid(alpha=0.3)
    for axis in figure.axes:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _folder_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


if __name__ == "__main__":
    sys.exit(run_command(main))
