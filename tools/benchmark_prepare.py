#!/usr/bin/env python
"""``detr-d2 prepare`` on made images: images a second, and beside panopticapi's converters on the same input.

The whole command reads, checks and copies the images as well, looks for near-duplicates, splits and writes a report.
Labels alone is what both do: from polygons to PNGs and to run lengths of instances, on one core of one process, in
turns. panopticapi needs two converters for that, detection to panoptic and back. Their inner functions are called, as
the scripts around them stop with today's numpy, whose whole numbers the json module refuses.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking.measure import machine, seconds_interleaved
from benchmarking.report import deliver, get_parser, table
from PIL import Image
from tqdm import tqdm

from detr_d2.errors import MissingFileError, run_command
from detr_d2.labels.panoptic_png import encode_ids
from detr_d2.labels.readers import read_exports
from detr_d2.parallel import default_workers
from detr_d2.prepare.classes import CrowdRule, LabelRules, build_class_table
from detr_d2.prepare.drawing import draw_labels, measure

CONVERTERS = ("detection2panoptic_coco_format", "panoptic2detection_coco_format")
EXAMPLES = """\
examples:
  python tools/benchmark_prepare.py                                 # a minute
  git clone https://github.com/cocodataset/panopticapi
  python tools/benchmark_prepare.py --reference panopticapi --write docs/performance.md
  python tools/benchmark_prepare.py --short                         # seconds: shows that it works
"""


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    parser.set_defaults(threads=1, repeats=3)
    parser.add_argument("--images", type=int, default=1000, metavar="N", help="(default: 1000)")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"), help="default: 480 640")
    parser.add_argument("--things", type=int, default=5, metavar="N", help="in an image (default: 5)")
    parser.add_argument("--workers", type=int, default=default_workers(), metavar="N", help="(default: %(default)s)")
    parser.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of cocodataset/panopticapi")
    args = parser.parse_args()
    count, size = (4, (48, 64)) if args.short else (args.images, tuple(args.size))
    if args.reference and not (args.reference / "converters").is_dir():
        raise MissingFileError(f"{args.reference}/converters isn't there; give a checkout of cocodataset/panopticapi.")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_export(root / "cvat" / "made", count, size, args.things)
        rows = [whole_command(root, count, args)]
        if args.reference:
            rows += labels_alone(root, count, args)
    title = (
        f"{count} images of {size[1]}×{size[0]} with {args.things} things each, {args.workers} processes, best of "
        f"{args.repeats}. {machine(args.threads)}."
    )
    deliver("benchmark_prepare", f"{title}\n\n{table(rows)}", {"machine": machine(args.threads), "rows": rows}, args)
    return 0


def make_export(folder: Path, count: int, size: tuple[int, int], things: int) -> None:
    """An export in CVAT's "COCO 1.0" layout: noisy images, and in each a row of outlines that don't overlap."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images, annotations = [], []
    for number in tqdm(range(1, count + 1), desc="making", unit="image", disable=None):
        chance = np.random.default_rng(number)
        name = f"{number:05d}.jpg"
        _photo(chance, size).save(folder / "images" / name, quality=90)
        images.append({"id": number, "file_name": name, "width": size[1], "height": size[0]})
        for thing in range(things):
            x, y = _outline(chance, size, thing, things)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": thing + 1,
                    "iscrowd": 0,
                    "segmentation": [np.stack([x, y], axis=1).round(2).ravel().tolist()],
                    "bbox": [float(x.min()), float(y.min()), float(np.ptp(x)), float(np.ptp(y))],
                    "area": 1.0,
                }
            )
    categories = [{"id": thing + 1, "name": f"thing {chr(97 + thing)}", "supercategory": ""} for thing in range(things)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_default.json").write_text(json.dumps(content), encoding="utf-8")
    content = [{**one, "isthing": 1, "color": [40 * one["id"], 90, 200 - 30 * one["id"]]} for one in categories]
    (folder.parent.parent / "categories.json").write_text(json.dumps(content), encoding="utf-8")


def _photo(chance: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    rough = Image.fromarray(chance.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = np.asarray(rough.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float32)
    return Image.fromarray((smooth + chance.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8))


def _outline(
    chance: np.random.Generator, size: tuple[int, int], thing: int, things: int
) -> tuple[np.ndarray, np.ndarray]:
    cell = size[1] / things
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = chance.uniform(0.25, 0.45, 24) * min(cell, size[0])
    return (thing + 0.5) * cell + radius * np.cos(turn), size[0] * chance.uniform(0.45, 0.55) + radius * np.sin(turn)


def whole_command(root: Path, count: int, args: Any) -> dict[str, Any]:
    """``detr-d2 prepare`` from start to end, as users call it."""
    out = root / "dataset"
    words = ["-m", "detr_d2", "prepare", "--cvat", str(root / "cvat"), "--out", str(out), "--stuff", "misc"]
    wall, processor = _best([sys.executable, *words, "--workers", str(args.workers)], args.repeats)
    return _row("detr-d2 prepare, all of it", count, wall, processor)


def _best(words: list[str], repeats: int) -> tuple[float, float]:
    """The least wall-clock seconds and the least processor seconds of running a command."""
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    times = []
    for _ in range(max(1, repeats)):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(words, env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        times.append((time.perf_counter() - started, used))
    return min(wall for wall, _ in times), min(used for _, used in times)


def _row(name: str, count: int, wall: float, processor: float) -> dict[str, Any]:
    return {
        "what": name,
        "images/s": significant(count / wall),
        "processor ms/image": significant(1000 * processor / count),
        "minutes for 10,000": significant(wall / count * 10_000 / 60),
    }


def significant(value: float, digits: int = 3) -> float:
    """A figure to so many digits, however small it is: on a slow machine a rate isn't zero."""
    return float(f"{value:.{digits}g}")


def labels_alone(root: Path, count: int, args: Any) -> list[dict[str, Any]]:
    """Polygons to PNGs and instances, on one core, ours and theirs in turns."""
    folder = root / "alone"
    folder.mkdir(exist_ok=True)

    def ours() -> None:
        (export,) = read_exports([root / "cvat"], "cvat")
        table_of_classes = build_class_table([export], [])
        rules = LabelRules(table_of_classes, CrowdRule(), "small-on-top", 16)
        for record in export.images:
            canvas = draw_labels(record.read_labels(), rules, (record.height, record.width), True, "human")
            segments = measure(canvas, table_of_classes)
            png = encode_ids(canvas.numbers, [0, *(segment.id for segment in segments)])
            (folder / f"{Path(record.name).stem}.png").write_bytes(png)

    seconds = seconds_interleaved(
        {"ours": ours, "theirs": _their_functions(root, folder, args)}, args.repeats, time.process_time
    )
    times = significant(seconds["theirs"] / seconds["ours"])
    return [
        _row("labels alone, one core: ours", count, seconds["ours"], seconds["ours"]),
        _row(f"labels alone, one core: panopticapi ({times} times ours)", count, seconds["theirs"], seconds["theirs"]),
    ]


def _their_functions(root: Path, folder: Path, args: Any) -> Any:
    from pycocotools.coco import COCO

    sys.path[:0] = [str(args.reference.resolve() / "converters"), str(args.reference.resolve())]
    forth, back = (importlib.import_module(name) for name in CONVERTERS)
    categories = {one["id"]: one for one in json.loads((root / "categories.json").read_text(encoding="utf-8"))}
    source = str(root / "cvat" / "made" / "annotations" / "instances_default.json")

    def theirs() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(source)  # anew, as the annotations are changed on the way
            made = forth.convert_detection_to_panoptic_coco_format_single_core(
                0, coco, coco.getImgIds(), categories, str(folder)
            )
            back.convert_panoptic_to_detection_coco_format_single_core(0, made, categories, str(folder), True)

    return theirs


if __name__ == "__main__":
    sys.exit(run_command(main))
