#!/usr/bin/env python
"""Panoptic quality: ours beside panopticapi, on the same maps and files, in one process and on one core.

Prints processor seconds of each, how many times those of ours they are, and how they grow with images and segments.
What a model gives is written as files for panopticapi first; ours decodes the ground truth in the first evaluation, and
keeps it for the others. Files of both are mostly decoding, which both leave to Pillow.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarking.measure import command_usage, machine, seconds_interleaved
from benchmarking.panoptic_pairs import NUM_CLASSES, Pair, colors_of, make_pairs, save_png, write_files
from benchmarking.report import deliver, get_parser, table, use_threads
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tqdm import tqdm

from detr_d2.errors import ConfigError, run_command
from detr_d2.evaluation.file_quality import compare_files, read_ground_truth, read_predictions
from detr_d2.evaluation.overlaps import GroundTruthMaps
from detr_d2.evaluation.panoptic_quality import PanopticQuality

OURS, THEIRS = "detr_d2", "panopticapi"
FIRST, AGAIN, FILES, COLORS, IDS = (
    "a model's maps in memory, ground truth in files: first evaluation",
    "the same, from the second evaluation on",
    "ground truth and predictions in files",
    "both in memory, panopticapi's as decoded colours",
    "both in memory as ids: matching alone",
)
COMMANDS = "The same files by each as a command, from its start to its end, on all cores:"
EXAMPLES = """\
examples:
  python tools/benchmark_pq.py                          # two minutes
  python tools/benchmark_pq.py --write docs/performance.md --plot docs/images/pq.png
  python tools/benchmark_pq.py --short                  # seconds: shows that it works
"""
Runs = dict[str, dict[str, Callable[[], list[float]]]]


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    parser.set_defaults(threads=1)
    parser.add_argument("--images", type=int, default=100, metavar="N", help="(default: 100)")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"), help="default: 480 640")
    parser.add_argument("--segments", type=int, default=15, metavar="N", help="in an image (default: 15)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw how time grows, e.g. a .png")
    args = parser.parse_args()
    use_threads(args.threads)
    count, size = (3, (48, 64)) if args.short else (args.images, tuple(args.size))

    rows = compare(make_pairs(count, *size, args.segments), args.repeats)
    growth = [
        {"varied": what, "value": value, **row}
        for what, value, pairs in tqdm(list(points(count, size, args.segments)), unit="point", disable=None)
        for row in compare(pairs, max(1, args.repeats // 2), (FIRST,))
    ]
    commands = compare_commands(make_pairs(count, *size, args.segments), args.repeats)
    if args.plot:
        draw(growth, args.plot)
    title = (
        f"{count} images of {size[0]}×{size[1]} with {args.segments} segments; median of {args.repeats} rounds, "
        f"processor time; the numbers are equal to the last bit. {machine(args.threads)}."
    )
    parts = [title, table([_in_words(row) for row in rows]), COMMANDS, table(commands)]
    text = "\n\n".join([*parts, _growth_title(), table(_growth_words(growth))])
    figures = {"machine": machine(args.threads), "rows": rows, "commands": commands, "growth": growth}
    deliver("benchmark_pq", text, figures, args)
    return 0


def points(count: int, size: tuple[int, int], segments: int) -> list[tuple[str, int, list[Pair]]]:
    """What varies, its value, and the images."""
    pairs = make_pairs(count, *size, segments)
    found = [("images", n, pairs[:n]) for n in (max(1, count // 4), max(1, count // 2), count)]
    few = max(1, count // 4)
    return found + [("segments", n, make_pairs(few, *size, n)) for n in (5, 15, 50, 150)]


def compare(pairs: list[Pair], repeats: int, kinds: tuple[str, ...] = (FIRST, AGAIN, FILES, COLORS, IDS)) -> list[dict]:
    """Seconds of both for each kind of input, taking turns.

    Raises:
        ConfigError: panopticapi isn't there.
        RuntimeError: their numbers differ.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        runs = {kind: both for kind, both in implementations(pairs, Path(folder)).items() if kind in kinds}
        for kind, both in runs.items():
            ours, theirs = both[OURS](), both[THEIRS]()
            if ours != theirs:
                raise RuntimeError(f"{kind}: PQ, SQ, RQ, N are {ours} and {theirs}")
            seconds = seconds_interleaved(both, repeats, time.process_time)
            rows.append({"kind": kind, **seconds, "ratio": seconds[THEIRS] / seconds[OURS]})
    return rows


def compare_commands(pairs: list[Pair], repeats: int) -> list[dict[str, Any]]:
    """Both as commands of their own, from start to end: median processor seconds, and MiB of the largest process."""
    with tempfile.TemporaryDirectory() as folder:
        gt, found = map(str, write_files(pairs, Path(folder)))
        words = {
            f"{OURS}: detr-d2 pq": ["detr_d2", "pq", "--gt", gt, "--pred", found],
            THEIRS: ["panopticapi.evaluation", "--gt_json_file", gt, "--pred_json_file", found],
        }
        usages: dict[str, list[tuple[float, float]]] = {name: [] for name in words}
        for _ in range(repeats):
            for name, module in words.items():
                usages[name].append(command_usage([sys.executable, "-m", *module]))
    return [
        {"command": name, "processor, s": statistics.median(s for s, _ in found), "MiB": max(m for _, m in found)}
        for name, found in usages.items()
    ]


def implementations(pairs: list[Pair], folder: Path) -> Runs:
    """For each kind of input both ways to the mean PQ, SQ, RQ, N over all classes."""
    gt, found = write_files(pairs, folder)
    names = [f"{number}.png" for number in range(len(pairs))]
    maps = {
        str(path.with_suffix("") / name): pair[index]
        for path, index in ((gt, 0), (found, 2))
        for name, pair in zip(names, pairs)
    }
    colors = {name: colors_of(ids) for name, ids in maps.items()}

    kept = GroundTruthMaps()

    def from_model(maps: GroundTruthMaps) -> list[float]:
        quality = PanopticQuality(NUM_CLASSES)
        for name, (_, true_segments, predicted_map, predicted_segments) in zip(names, pairs):
            true_map = maps.read(str(gt.with_suffix("") / name))
            quality.update(true_map, true_segments, predicted_map, predicted_segments)
        return _numbers(quality)

    def from_memory() -> list[float]:
        quality = PanopticQuality(NUM_CLASSES)
        for pair in pairs:
            quality.update(*pair)
        return _numbers(quality)

    def save_and_compare() -> list[float]:
        for name, pair in zip(names, pairs):
            save_png(pair.predicted_map, found.with_suffix("") / name)
        return by_panopticapi(gt, found)

    return {
        FIRST: {OURS: lambda: from_model(GroundTruthMaps()), THEIRS: save_and_compare},
        AGAIN: {OURS: lambda: from_model(kept), THEIRS: save_and_compare},
        FILES: {OURS: lambda: from_files(gt, found), THEIRS: lambda: by_panopticapi(gt, found)},
        COLORS: {OURS: from_memory, THEIRS: lambda: by_panopticapi(gt, found, colors)},
        IDS: {OURS: from_memory, THEIRS: lambda: by_panopticapi(gt, found, maps, decoded=True)},
    }


def from_files(gt: Path, found: Path) -> list[float]:
    """What ``detr-d2 pq --workers 1`` computes, checks included."""
    true, categories = read_ground_truth(str(gt))
    predictions = read_predictions(str(found), None, {category.id: i for i, category in enumerate(categories)})
    with contextlib.redirect_stderr(io.StringIO()):
        return _numbers(compare_files(true, predictions, NUM_CLASSES, workers=1).quality)


def by_panopticapi(gt: Path, found: Path, images: dict[str, Any] | None = None, decoded: bool = False) -> list[float]:
    """panopticapi's on one core.

    Args:
        gt, found: JSON files.
        images: what it gets instead of decoding the file of that path.
        decoded: ``images`` are ids already.
    """
    try:
        evaluation = importlib.import_module("panopticapi.evaluation")
    except ImportError as error:
        raise ConfigError(f"{error}. Install it: pip install --no-deps panopticapi-lite") from error
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in (gt, found)]
    predictions = {entry["image_id"]: entry for entry in contents[1]["annotations"]}
    matched = [(entry, predictions[entry["image_id"]]) for entry in contents[0]["annotations"]]
    categories = {entry["id"]: entry for entry in contents[0]["categories"]}
    folders = [str(path.with_suffix("")) for path in (gt, found)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        if images is not None:
            stack.enter_context(mock.patch.object(evaluation.Image, "open", images.__getitem__))
        if decoded:
            stack.enter_context(mock.patch.object(evaluation, "rgb2id", lambda ids: ids))
        sums = evaluation.pq_compute_single_core(0, matched, *folders, categories)
    mean = sums.pq_average(categories, isthing=None)[0]
    return [mean[key] for key in ("pq", "sq", "rq", "n")]


def draw(growth: list[dict[str, Any]], path: Path) -> None:
    """Seconds against images, and against segments, both axes from 0."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    for column, what in enumerate(("images", "segments")):
        axis = figure.add_subplot(1, 2, column + 1)
        chosen = [row for row in growth if row["varied"] == what]
        for name in (THEIRS, OURS):
            axis.plot([row["value"] for row in chosen], [row[name] for row in chosen], "o-", label=name)
        axis.set(xlim=(0, None), ylim=(0, None), xlabel=what, ylabel="" if column else "seconds")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _numbers(quality: PanopticQuality) -> list[float]:
    mean = quality.average(range(NUM_CLASSES))
    return [mean.pq, mean.sq, mean.rq, mean.n]


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    return {"input": row["kind"], f"{OURS}, s": row[OURS], f"{THEIRS}, s": row[THEIRS], "× ours": row["ratio"]}


def _growth_title() -> str:
    return f"How it grows ({FIRST}; segments on a quarter of the images):"


def _growth_words(growth: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [{"varied": row["varied"], "value": row["value"], **_in_words(row)} for row in growth]
    return [{key: value for key, value in row.items() if key != "input"} for row in rows]


if __name__ == "__main__":
    sys.exit(run_command(main))
