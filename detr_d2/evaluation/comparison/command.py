"""``detr-d2 compare``: is one evaluation better than another, or is it chance?"""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path
from typing import Any

from tabulate import tabulate

from detr_d2.arguments import add_resamples, add_shown_images
from detr_d2.errors import DatasetError
from detr_d2.evaluation.comparison.comparing import changed_classes, compare_evaluations
from detr_d2.evaluation.comparison.page import write_comparison_page
from detr_d2.evaluation.evaluation_folder import EvaluationFolder, evaluation_folders
from detr_d2.files import check_outputs, real_path, write_json
from detr_d2.wording import counted

_EPILOG = """\
examples:
  detr-d2 compare output/monday output/tuesday
  detr-d2 compare plain=output/a ricap=output/b --page ricap.html --json ricap.json

RUN is the output folder of 'train_net.py --eval-only', or the folder below it of one dataset (inference/DATASET);
NAME=RUN gives it a name. Both must have been evaluated on the same images.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = (
        "Compare two evaluations image by image: the difference with its interval (paired bootstrap), the classes "
        "that changed, and a page with the images that changed most."
    )
    parser.epilog = _EPILOG
    parser.add_argument("first", metavar="RUN_A", help="what was before")
    parser.add_argument("second", metavar="RUN_B", help="what is to be better")
    parser.add_argument("--dataset", metavar="NAME", help="which one, if the runs evaluated several")
    parser.add_argument("--common", action="store_true", help="leave out images that only one of them has")
    parser.add_argument("--page", type=Path, metavar="FILE", help="the page (default: compare.html in RUN_B's folder)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    add_shown_images(parser, 12, "of those that lost most and of those that gained most are shown")
    add_resamples(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, print the tables, write the page."""
    (name, first), (other, second) = (_named(text, args.dataset) for text in (args.first, args.second))
    names = (name, other) if name != other else (f"A: {name}", f"B: {other}")
    page = args.page or second.path / "compare.html"
    check_outputs({"--json": args.json, "--page": page}, [*first.own_files(), *second.own_files()])
    check_outputs({"--json": args.json, "--page": args.page}, chain(first.image_files(), second.image_files()))
    found = compare_evaluations(first, second, args.common)
    content = found.as_json(names, args.images, max(args.resamples, 1), args.seed)
    print(_text(content))
    if args.json:
        write_json(args.json, content)
    write_comparison_page(page, content, first, second)
    print(f"\nThe images that changed most: {page}")
    return 0


def _named(text: str, dataset: str | None) -> tuple[str, EvaluationFolder]:
    """A run's name and its evaluation's folder."""
    name, separator, path = text.partition("=")
    if not separator or Path(text).exists():
        path, name = text, real_path(text).name
    folders = evaluation_folders(Path(path))
    chosen = [folder for folder in folders if dataset is None or folder.name == dataset]
    if len(chosen) != 1:
        raise DatasetError(
            f"{path} has {len(folders)} evaluations ({', '.join(folder.name for folder in folders)}); name one of them "
            "with --dataset."
        )
    return name, EvaluationFolder(chosen[0])


def _text(content: dict[str, Any]) -> str:
    """Tables for the terminal."""
    headers = ["PQ", *content["names"], "difference", f"{100 * content['confidence']:g} %", "better in", ""]
    groups = [(name, *_cells(row)) for name, row in content["groups"].items()]
    classes = [(row["name"], *_cells(row)) for row in changed_classes(content)]
    parts = [_table(groups, headers)]
    if classes:
        note = f"Of {len(content['classes'])} classes one in twenty looks changed by chance alone."
        parts.append("Classes that changed:\n" + _table(classes, headers) + "\n" + note)
    else:
        parts.append("No class has changed by more than chance explains.")
    left_out = ""
    if content["left_out"]:
        left_out = f", {counted(content['left_out'], 'that only one has is', 'that only one has are')} left out"
    resamples = counted(content["resamples"], "bootstrap resample")
    parts.append(f"{counted(content['images'], 'image')}, {resamples}{left_out}.")
    return "\n\n".join(parts)


def _table(rows: list[Any], headers: list[str]) -> str:
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".1f", missingval="-", stralign="right")


def _cells(row: dict[str, Any]) -> list[Any]:
    interval = row["interval"] and f"{row['interval'][0]:+.1f} to {row['interval'][1]:+.1f}"
    better = None if row["better_in"] is None else f"{100 * row['better_in']:.0f} %"
    difference = None if row["difference"] is None else f"{row['difference']:+.1f}"
    return [row["before"], row["after"], difference, interval, better, row["verdict"]]
