#!/usr/bin/env python
"""How time and memory of panoptic inference grow with the image, the kept queries, the batch and the queries.

One thing changes at a time. Prints a table and says how straight the growth is; --plot draws it.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking.inference import ours
from benchmarking.measure import in_fresh_process, machine, peak_above_now
from benchmarking.models import Setting
from benchmarking.report import deliver, get_parser, table, use_threads
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tqdm import tqdm

from detr_d2.errors import run_command

EXAMPLES = """\
examples:
  python tools/benchmark_scaling.py                     # some minutes on two cores, 4 GB of memory
  python tools/benchmark_scaling.py --write docs/performance.md --plot docs/images/scaling.png
  python tools/benchmark_scaling.py --short             # half a minute: shows that it works
"""
PIXELS, KEPT, BATCH, QUERIES = "megapixels", "kept queries", "images a batch", "queries"


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the growth, e.g. a .png")
    args = parser.parse_args()
    base = Setting(96, 128, classes=20, queries=12, kept=3, small=True) if args.short else Setting()
    use_threads(args.threads)

    rows: list[dict[str, Any]] = []
    for what, value, setting in tqdm(points(base), unit="point", disable=None):
        seconds, mebibytes = in_fresh_process(measure, setting, args.repeats, args.threads)
        rows.append({"varied": what, "value": value, "seconds": seconds, "MiB": mebibytes} | vars(setting))
    if args.plot:
        draw(rows, args.plot)
    title = (
        f"ResNet-50, fp32; median of {args.repeats} runs, each row in a process of its own. {machine(args.threads)}."
    )
    text = "\n\n".join([title, table([_in_words(row) for row in rows]), *_growth(rows)])
    deliver("benchmark_scaling", text, {"machine": machine(args.threads), "rows": rows}, args)
    return 0


def points(base: Setting) -> list[tuple[str, float, Setting]]:
    """What varies, its value, and the setting: one thing at a time, all else as in ``base``."""
    sides = (64, 96) if base.small else (400, 566, 800, 1131, 1600)
    kept = (1, 3) if base.small else (1, 15, 30, 60, 100)
    sizes = [replace(base, height=side, width=side * 4 // 3) for side in sides]
    found = [(PIXELS, size.height * size.width / 1e6, size) for size in sizes]
    found += [(KEPT, count, replace(base, kept=count)) for count in kept]
    found += [(BATCH, count, replace(base, batch=count)) for count in ((1,) if base.small else (1, 2, 4, 8))]
    return found + [(QUERIES, n, replace(base, queries=n)) for n in ((12,) if base.small else (100, 200, 300))]


def measure(setting: Setting, repeats: int, threads: int) -> tuple[float, float]:
    """Median seconds, and MiB above the model at the peak of the first run, in this process."""
    use_threads(threads)
    run = ours(setting).panoptic
    mebibytes = peak_above_now(run)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times), mebibytes


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds above, memory below, one column for each thing that varies, with the straight line that fits best."""
    varied = list(dict.fromkeys(row["varied"] for row in rows))
    figure = Figure(figsize=(3 * len(varied), 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    for column, what in enumerate(varied):
        chosen = [row for row in rows if row["varied"] == what]
        for line, (key, unit) in enumerate((("seconds", "seconds"), ("MiB", "peak MiB above the model"))):
            axis = figure.add_subplot(2, len(varied), line * len(varied) + column + 1)
            x, y = [row["value"] for row in chosen], [row[key] for row in chosen]
            axis.plot(x, np.polyval(np.polyfit(x, y, min(1, len(x) - 1)), x), color="0.75")
            axis.plot(x, y, "o", color="C0")
            axis.set(xlim=(0, None), ylim=(0, 1.1 * max(y)), xlabel=what if line else None)
            axis.set_ylabel(unit if column == 0 else "")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _growth(rows: list[dict[str, Any]]) -> list[str]:
    """For each thing that varies: what one more costs, and how much of the variation a straight line explains."""
    lines = []
    for what in dict.fromkeys(row["varied"] for row in rows):
        x = [row["value"] for row in rows if row["varied"] == what]
        if len(x) < 2:
            continue
        parts = []
        for key, unit in (("seconds", "s"), ("MiB", "MiB")):
            y = [row[key] for row in rows if row["varied"] == what]
            slope, start = np.polyfit(x, y, 1)
            straight = np.corrcoef(x, y)[0, 1] ** 2 if np.std(y) > 0 else 1.0
            parts.append(f"{start:.3g} {unit} and {slope:.3g} {unit} more for each (R² {straight:.3f})")
        lines.append(f"* {what}: {'; '.join(parts)}.")
    return ["\n".join(lines)]


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    return {
        "varied": row["varied"],
        "image": f"{row['height']}×{row['width']}",
        "batch": row["batch"],
        "queries": row["queries"],
        "kept": row["kept"],
        "seconds": row["seconds"],
        "peak MiB above the model": round(row["MiB"]),
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
