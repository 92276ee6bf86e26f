#!/usr/bin/env python
"""What millions of photos need on a cluster: machines, hours, disk and money, from rates that were measured.

The rates are those in docs/performance.md and docs/predict.md; what isn't measured is an assumption, and said to be.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from benchmarking.report import deliver, table

from detr_d2.arguments import number, whole_number
from detr_d2.errors import ConfigError, run_command

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLES = """\
examples:
  python tools/plan_cluster.py --write docs/scale.md
  python tools/plan_cluster.py --images 250000 --machines 2 --cores 32 --price 1.20
"""
#: Bytes an image that 'detr-d2 predict' wrote of 40 construction photos of 89 KB each, by the quickstart's model.
PHOTO, DRAWING, OTHER_RESULTS = 88_955, 133_485, 11_926
#: Assumed: the part of its time in which a core works, and doesn't wait for the disk, the others or Ray.
USEFUL = 0.8


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=layout)
    amount, price = whole_number(1, 10**12), number(0, 10**6, "a price")
    parser.add_argument("--images", type=amount, default=10_000_000, metavar="N", help="(default: 10,000,000)")
    parser.add_argument("--machines", type=amount, default=10, metavar="N", help="(default: 10)")
    parser.add_argument("--cores", type=amount, default=64, metavar="N", help="of a machine (default: 64)")
    parser.add_argument(
        "--price", type=price, default=2.5, metavar="P", help="of a machine's hour, in $ (default: 2.5)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the plan in a Markdown file")
    args = parser.parse_args()
    rows = plan(args.images, args.machines, args.cores, args.price)
    text = f"{assumptions(args)}\n\n{table(rows)}\n\n{disk(args.images)}"
    deliver("plan_cluster", text, {"rows": rows}, args)
    return 0


def measured(document: str, row: str, column: int) -> float:
    """A figure of a table in docs/: of the row that begins so, in a column from 0 on.

    Raises:
        ConfigError: there is no such row.
    """
    text = (PROJECT / "docs" / document).read_text(encoding="utf-8")
    found = re.search(rf"^\| *{re.escape(row)} *\|(.*)\|$", text, flags=re.MULTILINE)
    if found is None:
        raise ConfigError(f"docs/{document} has no row '{row}'.")
    return float(found[1].split("|")[column])


def core_seconds() -> dict[str, float]:
    """Seconds of one core that an image takes, by what is done with it."""
    steps = 1 / measured("predict.md", "one after another", 0)  # on one core, the small network included
    network = 2 * measured("performance.md", "detr_d2", 0)  # on two cores
    return {
        "prepare": measured("performance.md", "detr-d2 prepare, all of it", 1) / 1000,
        "predict, the quickstart's model": steps,
        "predict, ResNet-50 at 800 pixels": steps + network,
    }


def plan(images: int, machines: int, cores: int, price: float) -> list[dict[str, Any]]:
    """A row for each thing to do."""
    rows = []
    for name, seconds in core_seconds().items():
        rate = cores * USEFUL / seconds
        hours = images / rate / 3600
        row = {"what": name, "core seconds an image": round(seconds, 4), "images/s a machine": round(rate, 1)}
        row |= {"machine hours": round(hours, 1), f"hours on {machines} machines": round(hours / machines, 2)}
        rows.append(row | {"money, $": round(hours * price)})
    return rows


def assumptions(args: argparse.Namespace) -> str:
    """What the table stands on."""
    return (
        f"{args.images:,} photos on {args.machines} machines of {args.cores} cores, each as fast as those that were "
        f"measured. Assumed: ${args.price:g} for a machine's hour; a core works {USEFUL:.0%} of its time."
    )


def disk(images: int) -> str:
    """How much is read and written."""
    terabytes = [f"{size * images / 1e12:.2f} TB" for size in (PHOTO, DRAWING, OTHER_RESULTS)]
    return (
        f"Disk: {terabytes[0]} of photos ({PHOTO / 1000:.0f} KB each, as measured: construction photos of 0.2 to 2 "
        f"megapixels), {terabytes[1]} of drawings, {terabytes[2]} of all other default results."
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
