#!/usr/bin/env python
"""Does labelling what `detr-d2 predict --rank` puts first help more than labelling images at random?

On the yard, where labels cost nothing: a model is trained on a few labelled scenes and ranks a pool of others. Then,
from the same weights and equally long, it is trained on the few and as many more, which are those that the ranking puts
first, or random ones. Two kinds of things are rare in the few and in the pool, and as frequent as others where quality
is measured.

With --series the pool has many photos of few places, as people take them, beside others; the ranking's first then come
with all of a place as well as with one of each. Whatever ends is kept in --out, and the same command goes on.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from benchmarking.measure import machine
from benchmarking.ranking_scenes import (
    RARE,
    one_of_each,
    plain_scenes,
    rare_scenes,
    series_pool,
    thinned,
    write_scenes,
    write_split,
)
from benchmarking.report import deliver, get_parser, spread, table
from PIL import Image

from detr_d2.arguments import whole_number
from detr_d2.config import get_config_file
from detr_d2.errors import ConfigError, UserError, run_command
from detr_d2.files import write_text
from detr_d2.yard.dataset import Labels

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLES = """\
examples:
  python tools/measure_ranking.py --out runs/ranking --write docs/predict.md --plot docs/images/ranking.png   # an hour
  python tools/measure_ranking.py --out runs/ranking --series      # the second pool, with the first one's models
  python tools/measure_ranking.py --out runs/short --short         # minutes: shows that it works
"""
RANDOM, RANKED, ONE_OF_EACH = "random", "ranked first", "ranked first, one of a place"


class Study(NamedTuple):
    """Numbers of scenes, and iterations of the trainings."""

    start: int = 100
    pool: int = 800
    added: int = 100
    held_out: int = 200
    boxes: int = 800
    masks: int = 300
    more: int = 400


SHORT = Study(start=8, pool=20, added=4, held_out=4, boxes=4, masks=2, more=2)


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="of scenes, models and results.json")
    parser.add_argument("--seeds", type=whole_number(1, 100), default=3, metavar="N", help="(default: 3)")
    parser.add_argument("--series", action="store_true", help="a pool with many photos of few places")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the results so far as a PNG")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    study = SHORT if args.short else Study()
    results = Results(args.out / "results.json", study)
    for seed in range(args.seeds):
        run_seed(study, seed, args.out, results, args.series)
    title = f"{results.title()} {machine(args.threads)}."
    deliver("ranking", f"{title}\n\n{table(results.table())}", {"machine": title, "runs": results.runs}, args)
    if args.plot:
        draw(results.runs, args.plot)
    return 0


class Results:
    """What has been measured so far, in a file.

    Args:
        path: of the file.
        study: that it is of.

    Raises:
        ConfigError: the file is of another study.
    """

    def __init__(self, path: Path, study: Study) -> None:
        self._path, self._study = path, study
        self.runs: list[dict[str, Any]] = []
        if path.is_file():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["study"] != study._asdict():
                raise ConfigError(f"{path} is of another study; name another folder.")
            self.runs = known["runs"]

    def has(self, **names: Any) -> bool:
        """Whether a run with these values is there."""
        return any(names.items() <= run.items() for run in self.runs)

    def add(self, run: dict[str, Any]) -> None:
        """Keeps a run, at once in the file."""
        self.runs.append(run)
        write_text(self._path, json.dumps({"study": self._study._asdict(), "runs": self.runs}, indent=1) + "\n")

    def title(self) -> str:
        """What the table is of."""
        study = self._study
        return (
            f"{study.start} labelled scenes, {study.added} more of a pool of {study.pool}; {study.held_out} held out. "
            f"Mean and standard deviation of {len({run['seed'] for run in self.runs})} seeds."
        )

    def table(self) -> list[dict[str, Any]]:
        """A row for each pool and choice: means and deviations over the seeds, and the gain over random ones."""
        rows = []
        for pool, choice in dict.fromkeys((run["pool"], run["choice"]) for run in self.runs):
            runs = [run for run in self.runs if (run["pool"], run["choice"]) == (pool, choice)]
            random = {run["seed"]: run for run in self.runs if (run["pool"], run["choice"]) == (pool, RANDOM)}
            gains = [run["PQ"] - random[run["seed"]]["PQ"] for run in runs if run["seed"] in random]
            values = {name: spread([run[name] for run in runs]) for name in ("PQ", "Things", "Stuff", "rare things")}
            gain = spread(gains) if gains and choice not in (RANDOM, "none") else ""
            rare = f"{statistics.mean(run['rare scenes'] for run in runs):.0f}"
            rows.append({"pool": pool, "added": choice, **values, "gain in PQ": gain, "scenes with rare things": rare})
        return rows


def run_seed(study: Study, seed: int, out: Path, results: Results, series: bool) -> None:
    """All that is missing of one seed."""
    folder, pool = out / f"seed{seed}", "with series" if series else "single scenes"
    held_out = write_scenes(out / "held_out", plain_scenes(study.held_out), "held_out")
    write_split(out / "held_out", "held_out", held_out)
    start = write_scenes(folder / "start", thinned(seed, study.start), "start")
    train = Training(study, seed, out)
    write_split(folder / "start", "start", start)
    base = train.base(folder, results, start)
    kind = "series" if series else "pool"
    made = series_pool(seed, study.pool) if series else thinned(seed, study.pool, first=10**5)
    labels = write_scenes(folder / kind, made, kind)
    ranked = ranking(base, folder / kind, folder / f"ranking_{kind}")
    shuffled = list(np.random.default_rng([seed, 7]).permutation(sorted(labels)))
    choices = {RANDOM: shuffled, RANKED: ranked} | ({ONE_OF_EACH: list(one_of_each(ranked))} if series else {})
    for choice, names in choices.items():
        if results.has(seed=seed, pool=pool, choice=choice):
            continue
        chosen = {name: labels[name] for name in names[: study.added]}
        print(f"seed {seed}, {pool}: {choice}", flush=True)
        quality = train.more(folder, kind, choice, base, start, chosen)
        results.add({"seed": seed, "pool": pool, "choice": choice, "rare scenes": rare_scenes(chosen), **quality})


def ranking(model: Path, pool: Path, out: Path) -> list[str]:
    """Names of a pool's images as `detr-d2 predict --rank` orders them, the least certain first."""
    if not (out / "ranking.csv").is_file():
        execute([sys.executable, "-m", "detr_d2", "predict", model, pool / "images", "--out", out, "--rank"], out)
    with (out / "ranking.csv").open(encoding="utf-8", newline="") as file:
        return [Path(row["image"]).stem for row in csv.DictReader(file)]


class Training:
    """The trainings of a seed, each a run of train_net.py.

    Args:
        study: how long they are.
        seed: of all of them.
        out: where "held_out" is.
    """

    def __init__(self, study: Study, seed: int, out: Path) -> None:
        self._study, self._seed, self._out = study, seed, out

    def base(self, folder: Path, results: Results, start: Labels) -> Path:
        """The model of the few labelled scenes: boxes, then masks over them."""
        names = {"start": folder / "start"}
        boxes, masks = folder / "boxes", folder / "masks"
        if not (boxes / "model_final.pth").is_file():
            self._run("detr_yard.yaml", boxes, names, self._study.boxes, [])
        if not (masks / "model_final.pth").is_file():
            weights = ["MODEL.WEIGHTS", str(boxes / "model_final.pth")]
            self._run("detr_panoptic_yard.yaml", masks, names, self._study.masks, weights)
        if not results.has(seed=self._seed, choice="none"):
            run = {"seed": self._seed, "pool": "", "choice": "none", "rare scenes": rare_scenes(start)}
            results.add(run | quality_of(masks))
        return masks / "model_final.pth"

    def more(self, folder: Path, kind: str, choice: str, base: Path, start: Labels, chosen: Labels) -> dict[str, float]:
        """Trains on with more labels, boxes and masks at once, and returns the quality."""
        write_split(folder / kind, "chosen", chosen)
        run = folder / f"{kind}_{'_'.join(choice.replace(',', '').split())}"
        joint = ["MODEL.WEIGHTS", str(base), "MODEL.DETR.FREEZE_DETECTOR", "False", "SOLVER.BASE_LR", "0.0005"]
        names = {"start": folder / "start", "chosen": folder / kind}
        self._run("detr_panoptic_yard.yaml", run, names, self._study.more, joint)
        return quality_of(run)

    def _run(self, config: str, run: Path, train: dict[str, Path], iterations: int, changes: Sequence[str]) -> None:
        sets = train | {"held_out": self._out / "held_out"}
        keys: dict[str, object] = {
            "OUTPUT_DIR": run,
            "DATASETS.REGISTER": [str(folder / "register.yaml") for folder in sets.values()],
            "DATASETS.TRAIN": tuple(f"yard_{name}" for name in train),
            "DATASETS.TEST": ("yard_held_out",),
            "SEED": self._seed,
            "SOLVER.MAX_ITER": iterations,
            "SOLVER.CHECKPOINT_PERIOD": 10**6,
            "INPUT.MIN_SIZE_TRAIN": (96,),
            "INPUT.MIN_SIZE_TEST": 96,
            "MODEL.DETR.SCORE_THRESHOLD": 0.5,
            "TEST.EVAL_PERIOD": iterations if "panoptic" in config else 0,
            "TEST.BOOTSTRAP": 0,
            "TEST.BOUNDARY_PQ": False,
            "TEST.MASK_AP": False,
            "TEST.SCENES": 0,
            "TEST.VALIDATION_LOSS": False,
        }
        opts = [str(part) for pair in keys.items() for part in pair]
        file = get_config_file(f"quickstart/{config}")
        execute([sys.executable, PROJECT / "train_net.py", "--config-file", file, *opts, *changes], run)


def quality_of(run: Path) -> dict[str, float]:
    """PQ of all, things, stuff and the rare kinds of things, at a run's end."""
    found = json.loads((run / "inference" / "yard_held_out" / "panoptic_quality.json").read_text(encoding="utf-8"))
    by_class = {one["name"]: one["PQ"] for one in found["classes"]}
    groups = {"PQ": found["All"]["PQ"], "Things": found["Things"]["PQ"], "Stuff": found["Stuff"]["PQ"]}
    return groups | {"rare things": statistics.mean(by_class[name] or 0.0 for name in RARE)}


def execute(command: Sequence[object], folder: Path) -> None:
    """Runs a command, what it prints in the folder's output.txt.

    Raises:
        UserError: it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.txt"
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "ignore"}
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run([str(part) for part in command], stdout=output, stderr=output, env=environment)
    if done.returncode:
        raise UserError(f"a training or the ranking failed; see the end of {log}.")


def draw(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """A panel for each pool: each seed's PQ by what was added, and the mean."""
    pools = list(dict.fromkeys(run["pool"] for run in runs if run["pool"]))
    figure, panels = plt.subplots(1, len(pools), figsize=(4.5 * len(pools), 3.2), sharey=True, squeeze=False)
    for panel, pool in zip(panels[0], pools):
        shown = [run for run in runs if run["pool"] in ("", pool)]
        choices = list(dict.fromkeys(run["choice"] for run in shown))
        for seed in sorted({run["seed"] for run in shown}):
            own = {run["choice"]: run["PQ"] for run in shown if run["seed"] == seed}
            values = [own.get(choice, float("nan")) for choice in choices]
            panel.plot(range(len(choices)), values, "o-", alpha=0.5, label=f"seed {seed}")
        means = [statistics.mean(run["PQ"] for run in shown if run["choice"] == choice) for choice in choices]
        panel.plot(range(len(choices)), means, "k_", markersize=28, label="mean")
        panel.set_xticks(range(len(choices)), [choice.replace(", ", ",\n") for choice in choices])
        panel.set_title(f"pool: {pool}")
        panel.grid(axis="y", alpha=0.3)
    panels[0][0].set_ylabel("PQ, held-out scenes")
    panels[0][0].legend(fontsize="small")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
