"""``detr-d2 pq``: panoptic quality of predictions of any system."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any

from detr_d2.arguments import add_seed, whole_number
from detr_d2.data.categories import Category
from detr_d2.evaluation.bootstrap import bootstrap_intervals
from detr_d2.evaluation.file_quality import (
    FileQuality,
    PanopticFile,
    compare_files,
    read_ground_truth,
    read_predictions,
)
from detr_d2.evaluation.results import (
    class_table,
    group_labels,
    quality_as_csv,
    quality_as_json,
    quality_table,
)
from detr_d2.files import check_outputs, write_json, write_text
from detr_d2.wording import counted

_EPILOG = """\
examples:
  detr-d2 pq --gt panoptic_val.json --pred predictions.json
  detr-d2 pq --gt panoptic_val.json --gt-folder panoptic --pred predictions.json --pred-folder png \\
      --per-class --bootstrap 1000 --json pq.json --csv per_class.csv

Both are COCO panoptic files; of the predictions only 'annotations' counts. The numbers are those of panopticapi.
All that is wrong in the files is listed at once, and there is no number then (exit code 2).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Panoptic quality (PQ, SQ, RQ for All, Things, Stuff) of predictions of any system."
    parser.epilog = _EPILOG
    parser.add_argument("--gt", required=True, metavar="FILE", help="the ground truth's panoptic JSON")
    parser.add_argument("--pred", required=True, metavar="FILE", help="the predictions' panoptic JSON")
    parser.add_argument(
        "--gt-folder",
        metavar="DIR",
        help="the ground truth's PNGs (default: FILE without .json, or panoptic/ beside it)",
    )
    parser.add_argument(
        "--pred-folder",
        metavar="DIR",
        help="the predictions' PNGs (default: FILE without .json)",
    )
    lacking = parser.add_mutually_exclusive_group()
    lacking.add_argument("--allow-missing", action="store_true", help="images without a prediction count as empty")
    lacking.add_argument("--subset", action="store_true", help="images without a prediction are left out")
    parser.add_argument("--per-class", action="store_true", help="show each class, too")
    parser.add_argument(
        "--bootstrap",
        type=whole_number(1, 1_000_000),
        metavar="N",
        help="95 %% intervals from N bootstrap resamples of the images",
    )
    add_seed(parser)
    parser.add_argument("--json", metavar="FILE", help="write all numbers there; - is the standard output")
    parser.add_argument("--csv", metavar="FILE", help="write a line for each class there")
    parser.add_argument(
        "--workers", type=whole_number(1, 1_000_000), metavar="N", help="threads (default: one a core, at most 8)"
    )


def run(args: argparse.Namespace) -> int:
    """Compare the files, print the tables, write what is asked for."""
    gt, categories = read_ground_truth(args.gt, args.gt_folder)
    labels = {category.id: label for label, category in enumerate(categories)}
    predictions = read_predictions(args.pred, args.pred_folder, labels)
    outputs = {"--json": None if args.json == "-" else args.json, "--csv": args.csv}
    pngs = (entry.png for file in (gt, predictions) for entry in file.images.values())
    check_outputs(outputs, chain((args.gt, args.pred), pngs))
    found = compare_files(gt, predictions, len(categories), args.allow_missing, args.subset, args.workers)
    content = _content(args, found, categories, len(gt.listed))
    tables = [class_table(content)] * args.per_class + [quality_table(content)]
    text = "\n\n".join([*tables, "\n".join(_notes(found, gt, predictions, args.subset))])
    print(text, file=sys.stderr if args.json == "-" else sys.stdout)
    if args.json == "-":
        print(json.dumps(content, indent=1, allow_nan=False))
    elif args.json:
        write_json(args.json, content)
    if args.csv:
        write_text(args.csv, quality_as_csv(content))
    return 0


def _content(
    args: argparse.Namespace, found: FileQuality, categories: Sequence[Category], annotated: int
) -> dict[str, Any]:
    """All numbers, and what they were made of."""
    intervals = None
    if args.bootstrap:
        groups = group_labels([category.is_thing for category in categories])
        intervals = bootstrap_intervals(found.quality, groups, args.bootstrap, args.seed)
    content = {"ground_truth": args.gt, "predictions": args.pred, "images": len(found.quality)}
    content |= {"of_images": annotated, "counted_as_empty": 0 if args.subset else found.missing}
    content |= {"stale_areas": found.stale_areas, **quality_as_json(found.quality, categories, intervals)}
    return content | ({"intervals": {**content["intervals"], "seed": args.seed}} if args.bootstrap else {})


def _notes(found: FileQuality, gt: PanopticFile, predictions: PanopticFile, subset: bool) -> list[str]:
    """What has to be known to read the numbers, a line each."""
    notes = [f"{counted(len(found.quality), 'image was', 'images were')} compared."]
    if found.missing and subset:
        notes = [
            f"SUBSET: only {len(found.quality)} of {counted(len(gt.listed), 'image')} could be compared, having a "
            "prediction; don't compare these numbers with those of the whole."
        ]
    elif found.missing:
        notes.append(f"{counted(found.missing, 'of them has', 'of them have')} no prediction: empty (--allow-missing).")
    if unannotated := len(gt.sizes.keys() - gt.listed.keys()):
        have, are = ("has", "is") if unannotated == 1 else ("have", "are")
        notes.append(f"{counted(unannotated, 'image')} of {gt.path} {have} no annotation and {are} no part of it.")
    if found.stale_areas:
        notes.append(
            f"{counted(found.stale_areas, 'true segment has', 'true segments have')} another area in the JSON than in "
            "the PNG; the PNG's pixels count here (panopticapi takes the JSON's)."
        )
    renamed = [
        f"{i} is {gt.category_names[i]!r} and {name!r}"
        for i, name in predictions.category_names.items()
        if gt.category_names.get(i, name) != name
    ]
    if renamed:
        notes.append(
            f"{counted(len(renamed), 'category has another name', 'categories have other names')} in the predictions: "
            f"{', '.join(renamed[:5])}."
        )
    return notes
