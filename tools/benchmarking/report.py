"""Tables for the terminal and for docs/performance.md, and figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from detr_d2.errors import UserError

OURS, HUGGINGFACE, REFERENCE = "detr_d2", "transformers", "facebookresearch/detr"


def get_parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """The arguments that all benchmarks have."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, epilog=examples, formatter_class=layout)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds; the median counts (default: 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="(default: all cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace this benchmark's part of a Markdown file")
    parser.add_argument("--short", action="store_true", help="a tiny model: shows that it works, figures mean nothing")
    return parser


def comparison_parser(description: str | None, script: str, size: tuple[int, int]) -> argparse.ArgumentParser:
    """The arguments of a benchmark of ours beside its peers, on images of ``size`` (height and width) by default."""
    examples = f"""\
examples:
  python tools/{script}                   # some minutes on two cores; 12 GB of memory, for the peer
  python tools/{script} --reference ../detr --variants --write docs/performance.md
  python tools/{script} --accelerations --threads 1 --write docs/performance.md
  python tools/{script} --short           # half a minute: shows that it works
"""
    parser = get_parser(description, examples)
    parser.add_argument("--reference", type=Path, metavar="DIR", help="a clone of facebookresearch/detr, compared too")
    parser.add_argument("--variants", action="store_true", help="ours with other keys of the config, too")
    parser.add_argument("--accelerations", action="store_true", help="instead of peers: ours with each of them off")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")
    height, width = size
    parser.add_argument(
        "--size", type=int, nargs=2, default=size, metavar=("H", "W"), help=f"(default: {height} {width})"
    )
    return parser


def compared(args: argparse.Namespace, variants: Iterable[str]) -> list[str]:
    """Names of the implementations that arguments of :func:`comparison_parser` ask for, ours first.

    Raises:
        UserError: they ask for a GPU, and there is none.
    """
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda needs a GPU that torch sees, and there is none; leave it out.")
    return [OURS, HUGGINGFACE] + [REFERENCE] * bool(args.reference) + list(variants) * args.variants


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of the same keys as a Markdown table."""
    return tabulate(rows, headers="keys", tablefmt="github", floatfmt=".3g")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation; a dash where there is nothing."""
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def deliver(name: str, text: str, figures: dict[str, Any], args: argparse.Namespace) -> None:
    """Print the text; write text and figures where the command line says."""
    print(text)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if args.write:
        write_part(args.write, name, text)


def write_part(path: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` in a file.

    Raises:
        UserError: the file isn't there, or has no such part.
    """
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    content = path.read_text(encoding="utf-8") if path.is_file() else ""
    if start not in content or end not in content:
        raise UserError(f"{path} has no part between the lines {start} and {end}; add them where the table shall be.")
    before, after = content.split(start, 1)[0], content.split(end, 1)[1]
    path.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")


def use_threads(threads: int) -> None:
    """Let torch use so many; to be called in every process."""
    torch.set_num_threads(threads)
