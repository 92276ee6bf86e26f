#!/usr/bin/env python
"""Does memory stay flat? Resident memory of a training and of an evaluation, second by second, on scenes of the yard.

The model is tiny, as what leaks does so whatever the model's size: iterations and images are what counts. What the
first quarter takes, until caches are filled, is left aside; of the rest the growth is a straight line's, by least
squares.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from benchmarking.measure import machine
from benchmarking.report import deliver, get_parser, table

from detr_d2.arguments import whole_number
from detr_d2.config import get_config_file
from detr_d2.data.registration import write_register
from detr_d2.errors import UserError, run_command
from detr_d2.yard import CATEGORIES, make_scene
from detr_d2.yard.dataset import Labels, save_photo, save_segments, write_instances, write_panoptic

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLES = """\
examples:
  python tools/measure_memory.py --write docs/reliability.md --plot docs/images/memory.png    # some ten minutes
  python tools/measure_memory.py --short                                                      # a minute: it works
"""
SCENES = 100
_SECONDS = 0.25
_MODEL = (
    *("MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.DETR.ENC_LAYERS", "1", "MODEL.DETR.DEC_LAYERS", "2"),
    *("MODEL.DETR.HIDDEN_DIM", "32", "MODEL.DETR.NHEADS", "4", "MODEL.DETR.DIM_FEEDFORWARD", "32"),
    *("MODEL.DETR.NUM_QUERIES", "12", "MODEL.DETR.SCORE_THRESHOLD", "0.2", "SOLVER.IMS_PER_BATCH", "2"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,80,96)", "INPUT.MIN_SIZE_TEST", "64", "MODEL.DETR.FREEZE_DETECTOR", "False"),
)


class Course(NamedTuple):
    """Resident memory of a run.

    Args:
        name: of the run.
        count: iterations or images.
        mebibytes: one after another, from when the work begins until it ends.
    """

    name: str
    count: int
    mebibytes: list[float]

    def row(self) -> dict[str, object]:
        """Its figures."""
        later = np.array(self.mebibytes[len(self.mebibytes) // 4 :])
        slope = np.polyfit(np.linspace(0.25, 1, len(later)), later, 1)[0] * 1000 / self.count
        return {
            "run": self.name,
            "MiB after a quarter": round(float(later[0])),
            "at the end": round(float(later[-1])),
            "most": round(max(self.mebibytes)),
            "growth, MiB per 1,000": round(float(slope), 2),
        }


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    count = whole_number(1, 10**7)
    parser.add_argument("--iterations", type=count, default=2000, metavar="N", help="of the training (default: 2000)")
    parser.add_argument("--images", type=count, default=5000, metavar="N", help="of the evaluation (default: 5000)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the courses as a PNG")
    args = parser.parse_args()
    iterations, images = (20, 40) if args.short else (args.iterations, args.images)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder, images)
        courses = [
            observe(folder, "training", iterations, ["SOLVER.MAX_ITER", str(iterations)]),
            observe(folder, "evaluation", images, ["--eval-only"]),
        ]
    rows = [course.row() for course in courses]
    title = f"Training of {iterations} iterations, evaluation of {images} images. {machine(args.threads)}."
    deliver("memory", f"{title}\n\n{table(rows)}", {"machine": machine(args.threads), "rows": rows}, args)
    if args.plot:
        draw(courses, args.plot)
    return 0


def write_scenes(folder: Path, images: int) -> None:
    """Scenes as the dataset ``scenes_few``; and as ``scenes_many``, in which each has many names."""
    few: Labels = {}
    for index in range(min(SCENES, images)):
        scene = make_scene(index)
        save_photo(scene, folder / "images" / f"{index:06d}.jpg")
        few[f"{index:06d}"] = save_segments(scene, folder / "panoptic" / f"{index:06d}.png")
    many: Labels = {}
    for index in range(images):
        known, name = f"{index % len(few):06d}", f"{index:06d}"
        if index >= len(few):
            os.link(folder / "images" / f"{known}.jpg", folder / "images" / f"{name}.jpg")
            os.link(folder / "panoptic" / f"{known}.png", folder / "panoptic" / f"{name}.png")
        many[name] = few[known]
    things = [category for category in CATEGORIES if category["isthing"]]
    for split, labels in (("few", few), ("many", many)):
        write_panoptic(folder / f"panoptic_{split}.json", labels, (160, 128))
        write_instances(folder / f"instances_{split}.json", labels, (160, 128), things)
    write_register(folder, "scenes", ("few", "many"))


def observe(folder: Path, name: str, count: int, words: list[str]) -> Course:
    """Runs train_net.py and reads how much memory it holds, from its first iteration or image on.

    Raises:
        UserError: it failed.
    """
    out = folder / name
    weights = str(folder / "training" / "model_final.pth") if name == "evaluation" else ""
    keys = [
        "OUTPUT_DIR",
        str(out),
        "DATASETS.REGISTER",
        str([str(folder / "register.yaml")]),
        "DATASETS.TRAIN",
        "('scenes_few',)",
        *_MODEL,
    ]
    is_option = words[0].startswith("--")
    keys += ["DATASETS.TEST", "('scenes_many',)" if is_option else "()", "MODEL.WEIGHTS", weights]
    config = get_config_file("quickstart/detr_panoptic_yard.yaml")
    command = [sys.executable, str(PROJECT / "train_net.py"), "--config-file", config]
    command += [*words, *keys] if is_option else [*keys, *words]
    log = folder / f"{name}.txt"
    found: list[float] = []
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | {"PYTHONPATH": str(PROJECT)})
        while process.poll() is None:
            started = "Start inference" if is_option else "Starting training"
            if started in log.read_text(encoding="utf-8", errors="replace"):
                found += resident(process.pid)
            time.sleep(_SECONDS)
    if process.returncode or len(found) < 4:
        raise UserError(f"the {name} failed or was too short:\n{log.read_text(errors='replace')[-2000:]}")
    return Course(f"{name}, {count} {'images' if is_option else 'iterations'}", count, found[:-1])


def resident(process: int) -> list[float]:
    """MiB that a process holds, or nothing where it has just ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")]


def draw(courses: list[Course], path: Path) -> None:
    """A line for each run."""
    figure, axis = plt.subplots(figsize=(7, 3))
    for course in courses:
        axis.plot(np.linspace(0, course.count, len(course.mebibytes)), course.mebibytes, label=course.name)
    axis.set(xlabel="iterations or images", ylabel="resident memory, MiB", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    sys.exit(run_command(main))
