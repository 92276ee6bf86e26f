#!/usr/bin/env python
"""``detr-d2 check`` on a made COCO file: processor seconds and memory of the command, also beside another checkout's.

The images are links to one file, so that it is annotations that count; --quick leaves out what looks at pixels.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from benchmarking.measure import command_usage, machine
from benchmarking.report import deliver, get_parser, table
from PIL import Image

from detr_d2.errors import MissingFileError, run_command

PROJECT = Path(__file__).resolve().parents[1]
OF_AN_IMAGE, SIZE = 50, (640, 480)
EXAMPLES = """\
examples:
  python tools/benchmark_check.py                                        # a million annotations
  git worktree add /tmp/before COMMIT
  python tools/benchmark_check.py --before /tmp/before --write docs/performance.md
  python tools/benchmark_check.py --short                                # seconds: shows that it works
"""


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    parser.set_defaults(threads=1, repeats=1)
    parser.add_argument("--annotations", type=int, default=10**6, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--before", type=Path, metavar="DIR", help="another checkout, run in turns with this one")
    args = parser.parse_args()
    if args.before and not (args.before / "detr_d2").is_dir():
        raise MissingFileError(f"--before {args.before} has no folder detr_d2; name a checkout of this project.")
    sources = {"here": PROJECT} | ({"before": args.before.resolve()} if args.before else {})
    count = 500 if args.short else args.annotations
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        labels = make_labels(Path(folder), count)
        rows = [measure(labels, quick, sources, args.repeats) for quick in (True, False)]
    text = f"{count:,} annotations, {OF_AN_IMAGE} in an image; {machine(args.threads)}\n\n{table(rows)}"
    deliver("benchmark_check", text, {"annotations": count, "rows": rows}, args)
    return 0


def make_labels(folder: Path, count: int) -> Path:
    """A COCO JSON of polygons, whose images are links to one file."""
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "first.jpg")
    images, annotations = [], []
    for image_id in range(1, count // OF_AN_IMAGE + 1):
        name = f"{image_id:06}.jpg"
        os.symlink(folder / "first.jpg", folder / "images" / name)
        images.append({"id": image_id, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        for place in range(OF_AN_IMAGE):
            x, y, w, h = 60 * (place % 10) + 5, 90 * (place // 10) + 5, 40, 60
            ring = [x, y, x + w, y, x + w, y + h, x, y + h]
            one = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1 + place % 2, "iscrowd": 0}
            annotations.append({**one, "segmentation": [ring], "bbox": [x, y, w, h], "area": w * h})
    categories = [{"id": 1, "name": "brick"}, {"id": 2, "name": "pipe"}]
    labels = folder / "labels.json"
    labels.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return labels


def measure(labels: Path, quick: bool, sources: dict[str, Path], repeats: int) -> dict[str, str | float]:
    """A row of the table: medians over the rounds, in each of which every source has its turn."""
    words = ["check", str(labels), "--images", str(labels.parent / "images"), "--workers", "1", "--limit", "1"]
    used: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    for _ in range(repeats):
        for name, source in sources.items():
            start = ["env", f"PYTHONPATH={source}", sys.executable, "-m", "detr_d2"]
            used[name].append(command_usage([*start, *words, *(["--quick"] if quick else [])], labels.parent))
    row: dict[str, str | float] = {"command": "check --quick" if quick else "check"}
    for name, each in used.items():
        seconds, peak = np.median(np.array(each), axis=0)
        row |= {f"{name}: s": round(float(seconds), 2), f"{name}: MiB": round(float(peak))}
    if "before" in used:
        row["before / here"] = round(float(row["before: s"]) / float(row["here: s"]), 2)
    return row


if __name__ == "__main__":
    sys.exit(run_command(main))
