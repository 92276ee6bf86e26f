"""``detr-d2 check``: what is wrong with a dataset, all at once."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from .dataset import dataset_faults
from .faults import Fault
from .parallel import default_workers
from .report import Findings, JsonReport, collect, written_beside
from .sources import find_sources

_EPILOG = """\
examples:
  detr-d2 check datasets/yard/register.yaml
  detr-d2 check exports/                        # CVAT's "COCO 1.0", one or a folder for each class
  detr-d2 check labels.json --images photos --json faults.json
  detr-d2 check panoptic_train.json --images photos --panoptic masks --quick

Exit code: 1 if something would stop training or make it go wrong, 0 with warnings only, 2 if there is no such dataset.
docs/data.md explains each fault.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Name every fault of a dataset at once: file, image id, segment id, fault and fix."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "dataset", metavar="DATASET", help="a register.yaml, a COCO JSON, a folder with either or from CVAT, or a name"
    )
    parser.add_argument("--images", metavar="DIR", help="pictures of a JSON (default: looked for beside it)")
    parser.add_argument("--panoptic", metavar="DIR", help="PNGs of a panoptic JSON (default: looked for beside it)")
    parser.add_argument("--quick", action="store_true", help="the JSON, and whether files are there, but no pixels")
    parser.add_argument(
        "--json", metavar="FILE", help="write all faults as JSON; - for the terminal, instead of a table"
    )
    parser.add_argument(
        "--limit", type=_count, default=5, metavar="N", help="so many of each kind in the table (default: 5)"
    )
    parser.add_argument(
        "--workers", type=_count, default=default_workers(), metavar="N", help="processes (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Check the dataset, show what was found, and return the exit code."""
    dataset = find_sources(args.dataset, args.images, args.panoptic)
    faults = dataset_faults(dataset, args.quick, args.workers, _progress)
    findings = Findings(args.limit)
    mode = "quick" if args.quick else "full"
    if args.json == "-":
        collect(faults, findings, JsonReport(sys.stdout, args.dataset, mode))
    elif args.json:
        with written_beside(args.json) as file:
            collect(faults, findings, JsonReport(file, args.dataset, mode))
    else:
        collect(faults, findings)
    if args.json != "-":
        _print(findings, len(dataset.sources), args)
    return 1 if findings.errors else 0


def _print(findings: Findings, files: int, args: argparse.Namespace) -> None:
    if findings.counts:
        print(findings.table(), end="\n\n")
    looked = "JSON only, no pixels" if args.quick else "JSON and pixels"
    print(f"{args.dataset}: {findings.summary()} in {files} annotation file{'s'[: files != 1]} ({looked})")
    if args.json:
        print(f"all of them: {args.json}")


def _progress(results: Iterable[list[Fault]], count: int) -> Iterable[list[Fault]]:
    bar: Any = tqdm(results, total=count, desc="pictures", unit="picture", file=sys.stderr, disable=None, leave=False)
    return bar  # type: ignore[no-any-return]


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a whole number from 1 on")
    return int(text)
