#!/usr/bin/env python
"""``detr-d2 predict`` on many photos: reading, network and writing at once, and one after another, in one process."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from benchmarking.measure import machine, seconds_interleaved
from benchmarking.report import deliver, get_parser, table, use_threads

from detr_d2.errors import run_command
from detr_d2.prediction import Predictor
from detr_d2.prediction.image_files import FoundImage, find_inputs
from detr_d2.prediction.running import WholeImages, predict_all
from detr_d2.prediction.writers import DEFAULT_KINDS, add_all
from detr_d2.yard import write_yard

EXAMPLES = """\
examples:
  python tools/benchmark_predict.py runs/quickstart/stage2/model_final.pth photos/
  python tools/benchmark_predict.py runs/quickstart/stage2/model_final.pth --threads 1 --write docs/predict.md
"""


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    parser.add_argument("model", metavar="CHECKPOINT")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="photos (default: made-up ones of 800x600 pixels)")
    parser.add_argument(
        "--images", type=int, default=100, metavar="N", help="so many, of the first ones (default: 100)"
    )
    args = parser.parse_args()
    use_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        images = find_inputs(args.inputs or [made_photos(Path(folder) / "yard", args.images)]).images[: args.images]
        engine = WholeImages(Predictor(args.model))
        outs = [Path(folder) / name for name in ("single", "overlapped")]
        seconds = seconds_interleaved(
            {
                "one after another": lambda: one_after_another(engine, images, emptied(outs[0])),
                "at once": lambda: predict_all(engine, images, emptied(outs[1]), DEFAULT_KINDS),
            },
            args.repeats,
        )
    slowest = max(seconds.values())
    rows = [
        {"reading, network and writing": name, "images/s": len(images) / value, "× as fast": slowest / value}
        for name, value in seconds.items()
    ]
    title = f"{len(images)} images, results {', '.join(DEFAULT_KINDS)}; median of {args.repeats} rounds. "
    deliver("benchmark_predict", f"{title}{machine(args.threads)}.\n\n{table(rows)}", {"seconds": seconds}, args)
    return 0


def made_photos(folder: Path, number: int) -> str:
    """Scenes of the made-up yard, as large as photos are."""
    write_yard(folder, train=number, val=1, width=800, height=600, seed=0)
    return str(folder / "images")


def emptied(folder: Path) -> Path:
    """The folder without what an earlier round left there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def one_after_another(engine: WholeImages, images: list[FoundImage], folder: Path) -> None:
    """What the command does, but nothing at the same time."""
    for image in images:
        (prediction,) = engine.predict([engine.load(image)])
        add_all(DEFAULT_KINDS, folder, image, prediction)


if __name__ == "__main__":
    sys.exit(run_command(main))
