"""``detr-d2 report``: what an evaluation found, on one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from detr_d2.arguments import add_resamples, add_shown_images
from detr_d2.evaluation.evaluation_folder import evaluation_folders
from detr_d2.evaluation.report.writing import IMAGES, write_run_report

_EPILOG = """\
examples:
  detr-d2 report runs/quickstart/evaluation
  detr-d2 report output --images 50 --output report_of_monday

RUN is the output folder of 'train_net.py --eval-only', which ends with the same report, or the folder below it of one
dataset (inference/DATASET). The page needs no network; open it in any browser.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = (
        "Write report.html, report.json and per_class.csv of an evaluation: quality with intervals, what the errors "
        "are made of and cost, the worst and best images, what to do next."
    )
    parser.epilog = _EPILOG
    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder of an evaluation")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="where to (default: beside the evaluation's records)"
    )
    add_shown_images(parser, IMAGES, "of the worst and of the best are shown")
    add_resamples(parser)


def run(args: argparse.Namespace) -> int:
    """Write a report for each dataset of the run; say where."""
    folders = evaluation_folders(args.folder)
    for folder in folders:
        output = args.output / folder.name if args.output and len(folders) > 1 else args.output
        print(write_run_report(folder, output, args.images, args.resamples, args.seed))
    return 0
