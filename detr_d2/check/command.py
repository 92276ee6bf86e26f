"""``detr-d2 check``: what is wrong with a dataset, all at once."""

from __future__ import annotations

import argparse
import os
import shlex
from functools import partial
from typing import Any

from detr_d2.arguments import whole_number
from detr_d2.errors import DatasetError
from detr_d2.files import refuse_replacing, refuse_special
from detr_d2.labels.rules.rule import RULES
from detr_d2.parallel import default_workers
from detr_d2.progress import progress
from detr_d2.wording import counted

from .dataset import dataset_faults
from .report import Findings, write_report
from .sources import Sources, files_read, find_sources, folders_read, refuse_exports

_EPILOG = """\
examples:
  detr-d2 check datasets/yard/register.yaml
  detr-d2 check exports/                        # CVAT's, folders and zips, one or many
  detr-d2 check labels.json --images photos --json faults.json
  detr-d2 check panoptic_train.json --images photos --panoptic masks --quick
  detr-d2 check exports/ --fix repaired/        # a copy without errors, and a table of what was changed

Exit code: 1 if something would stop training or make it go wrong, 0 with warnings only, 2 if there is no such dataset.
With --fix: 0 once the copy is there. docs/data.md explains each fault, and how it is fixed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Name every fault of a dataset at once: file, image id, segment id, fault and fix."
    parser.epilog = _EPILOG
    parser.add_argument(
        "dataset", metavar="DATASET", help="a register.yaml, a COCO JSON, a folder, zip or XML from CVAT, or a name"
    )
    parser.add_argument("--images", metavar="DIR", help="images of a JSON (default: looked for beside it)")
    parser.add_argument("--panoptic", metavar="DIR", help="PNGs of a panoptic JSON (default: looked for beside it)")
    parser.add_argument("--quick", action="store_true", help="the JSON, and whether files are there, but no pixels")
    parser.add_argument("--json", metavar="FILE", help="all faults as JSON; - for the terminal, instead of a table")
    parser.add_argument("--fix", metavar="OUT", help="write a repaired copy into this new folder, beside the original")
    number: dict[str, Any] = {"type": whole_number(1, 999_999), "metavar": "N"}
    parser.add_argument("--limit", default=5, help="so many of each kind in the table (default: 5)", **number)
    parser.add_argument("--workers", default=default_workers(), help="processes (default: %(default)s)", **number)


def run(args: argparse.Namespace) -> int:
    """Check the dataset, show what was found, and return the exit code."""
    if args.fix and args.quick:
        raise DatasetError("--fix looks at every pixel; leave --quick out.")
    dataset = find_sources(args.dataset, args.images, args.panoptic)
    if args.json and args.json != "-":
        args.json = os.path.expanduser(args.json)
        refuse_special(args.json)
        if not os.path.isdir(os.path.dirname(args.json) or os.curdir):
            raise DatasetError(f"{args.json} can't be written: its folder isn't there. Name another file for --json.")
        refuse_replacing(args.json, files_read(dataset, args.dataset, args.json), "--json")
    if args.fix:
        from .copying import refuse_inside, refuse_taken  # and all that writes, only where something is written

        refuse_exports(dataset, args.dataset)
        refuse_taken(args.fix)
        refuse_inside(args.fix, folders_read(dataset, args.dataset), args.json)
    faults = dataset_faults(dataset, args.quick, args.workers, partial(progress, unit="image"))
    findings = Findings(args.limit, _root(args.dataset))
    if args.json:  # while they are found
        write_report(args.json, faults, findings, args.dataset, "quick" if args.quick else "full")
    else:
        findings.take(faults)
    if args.fix:
        return _fix(dataset, findings, args)
    if args.json != "-":
        _print(findings, len(dataset.sources), args)
    return 1 if findings.errors else 0


def _print(findings: Findings, files: int, args: argparse.Namespace) -> None:
    if findings.counts:
        print(findings.table(), end="\n\n")
    looked = "JSON only, no pixels" if args.quick else "JSON and pixels"
    print(f"{args.dataset}: {findings.summary()} in {counted(files, 'annotation file')} ({looked})")
    if args.json:
        print(f"all of them: {args.json}")
    if findings.errors:
        given = [("--images", args.images), ("--panoptic", args.panoptic)]
        words = [args.dataset, *(word for name, folder in given if folder for word in (name, folder))]
        print(f"a copy without the errors: detr-d2 check {shlex.join(words)} --fix OUT")
        print("what becomes of each: docs/data.md")


def _fix(dataset: Sources, before: Findings, args: argparse.Namespace) -> int:
    """Write the repaired copy and say what was changed."""
    from .copying import CHANGES, fix_dataset

    # What a folder or a register.yaml names keeps its place; files that were given one by one get the usual ones.
    is_single = args.images or args.panoptic or args.dataset.lower().endswith(".json")
    root = None if is_single else _root(args.dataset)
    log, after = fix_dataset(dataset, args.fix, root, args.limit, args.workers, partial(progress, unit="image"))
    if args.json == "-":
        return 0
    if log.counts:
        print(log.table(), end="\n\n")
    print(f"{args.dataset}: {before.summary()}")
    print(f"{args.fix}: {after.summary()}, after {log.summary()}; all of them are in {CHANGES} there")
    for code, count in sorted(after.counts.items(), key=lambda item: -item[1]):
        print(f"  left as it was: {code}, {counted(count, 'time')}: {RULES[code].advice}")
    return 0


def _root(dataset: str) -> str | None:
    """The folder that a dataset lies in; None for a registered name."""
    path = os.path.expanduser(dataset)
    if os.path.isdir(path) or path.lower().endswith(".zip"):
        return path
    return os.path.dirname(path) or os.curdir if os.path.isfile(path) else None
