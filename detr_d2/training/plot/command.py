"""``detr-d2 plot``: curves of one or several trainings."""

from __future__ import annotations

import argparse
from pathlib import Path

from detr_d2.errors import ConfigError
from detr_d2.files import check_outputs
from detr_d2.training.plot.page import draw_runs, write_runs_page
from detr_d2.training.plot.runs import read_runs

EPILOG = """\
examples:
  detr-d2 plot output/detr_panoptic_R50
  detr-d2 plot runs/quickstart/stage1 runs/quickstart/stage2 --out curves.html
  detr-d2 plot plain=runs/a "with RICAP=runs/b" --out curves.png --smooth 10

A run is an output folder of train_net.py, or its metrics.json; NAME=PATH gives it a name. It may still be going on.
Drawn is what there is: losses of training and validation, PQ, AP, class and cardinality error, learning rate.
"""

_WRITERS = {".png": draw_runs, ".html": write_runs_page}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = "Draw losses, panoptic quality and learning rate of one or several runs."
    parser.epilog = EPILOG
    parser.add_argument("runs", nargs="+", metavar="RUN", help="an output folder or a metrics.json, or NAME=either")
    parser.add_argument(
        "--out", type=Path, default=Path("curves.png"), metavar="FILE", help=".png or .html (default: %(default)s)"
    )
    parser.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="N",
        help="draw training's curves as exponential means over about N of their points (default: as they are)",
    )


def run(args: argparse.Namespace) -> int:
    """Reads the runs and writes the image or the page.

    Raises:
        ConfigError: the file is to be neither PNG nor HTML, a negative ``--smooth``, or two runs of one name.
        MissingFileError, DatasetError: a run has no metrics.
    """
    write = _WRITERS.get(args.out.suffix.lower())
    if write is None:
        raise ConfigError(f"--out {args.out} ends in {args.out.suffix!r}; allowed are {' and '.join(_WRITERS)}.")
    if not 0 <= args.smooth < float("inf"):
        raise ConfigError(f"--smooth is {args.smooth}; allowed are numbers from 0 on.")
    runs = read_runs(args.runs)
    check_outputs({"--out": args.out}, [run.path for run in runs if run.path is not None])
    write(runs, args.out, args.smooth)
    print(f"{args.out} shows {len(args.runs)} {'run' if len(args.runs) == 1 else 'runs'}.")
    return 0
