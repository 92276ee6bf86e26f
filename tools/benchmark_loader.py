#!/usr/bin/env python
"""Loading: a panoptic PNG to masks, boxes and areas, ours beside the straightforward loop, in one process on one core.

The loop compares the whole map with each segment's id; "all at once" is one comparison for all of them, as DETR's own
loader has it. Prints processor seconds, how many times those of ours they are, and how they grow with segments.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking.loading import (
    Record,
    Targets,
    all_at_once,
    numbered,
    of_ids,
    ours,
    read_ids,
    real_records,
    straightforward,
    straightforward_input,
    write_records,
)
from benchmarking.measure import machine, seconds_interleaved
from benchmarking.report import deliver, get_parser, table, use_threads

from detr_d2.data import DetrPanopticDatasetMapper, read_panoptic_png
from detr_d2.data.segments import Segments
from detr_d2.errors import run_command

from detectron2.data import transforms as T

OURS, LOOP, AT_ONCE, STRIDED = "detr_d2", "loop", "all at once", "detr_d2, stride 4"
FILES, IDS, WHOLE = (
    "PNG to masks, boxes, areas",
    "the same, of ids in memory",
    "photo and PNG to the model's input, resized",
)
EXAMPLES = """\
examples:
  python tools/benchmark_loader.py
  python tools/benchmark_loader.py --data ../shared/data/coco128_panoptic/val --write docs/loading.md
  python tools/benchmark_loader.py --short                  # seconds: shows that it works
"""


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    parser.set_defaults(threads=1)
    parser.add_argument("--images", type=int, default=20, metavar="N", help="(default: 20)")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"), help="default: 480 640")
    parser.add_argument("--data", type=Path, metavar="DIR", help="real ones: images/, panoptic/ and panoptic.json")
    args = parser.parse_args()
    use_threads(args.threads)
    count, size = (2, (48, 64)) if args.short else (args.images, tuple(args.size))

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for segments in (5,) if args.short else (5, 15, 50, 150):
            records = write_records(Path(folder), count, *size, segments)
            rows += compare(f"made, {segments} segments", records, args.repeats)
        if args.data:
            real = real_records(args.data)[: args.images]
            mean = np.mean([len(record["segments_info"]) for record in real])
            rows += compare(f"{args.data.parent.name}, {mean:.0f} segments", real, args.repeats)
    title = (
        f"{count} made images of {size[0]}×{size[1]}; milliseconds of processor time for each, median of "
        f"{args.repeats} rounds; all give the same targets. {machine(args.threads)}."
    )
    words = [{"what": row["what"], "images": row["images"], **_in_words(row)} for row in rows]
    deliver("benchmark_loader", f"{title}\n\n{table(words)}", {"machine": machine(args.threads), "rows": rows}, args)
    return 0


def compare(images: str, records: Sequence[Record], repeats: int) -> list[dict[str, Any]]:
    """Milliseconds an image of each way, taking turns.

    Raises:
        RuntimeError: their targets differ.
    """
    maps = [(read_panoptic_png(record["pan_seg_file_name"]), read_ids(record)) for record in records]
    resizes = [_resize(record) for record in records]
    mappers = {stride: [_mapper(resize, stride) for resize in resizes] for stride in (1, 4)}
    for record, mapper, resize in zip(records, mappers[1], resizes):
        require_equal([straightforward(record), all_at_once(record), ours(record)])
        gt = mapper(record)["instances"]
        areas = gt.gt_masks.tensor.flatten(1).sum(1).numpy()
        given = Targets(gt.gt_masks.tensor.numpy(), gt.gt_boxes.tensor.numpy(), areas)
        require_equal([straightforward_input(record, resize)[1], given])
    ways: dict[str, dict[str, Callable[[int], object]]] = {
        FILES: {
            OURS: lambda i: ours(records[i]),
            LOOP: lambda i: straightforward(records[i]),
            AT_ONCE: lambda i: all_at_once(records[i]),
            STRIDED: lambda i: ours(records[i], 4),
        },
        IDS: {OURS: lambda i: numbered(maps[i][0], records[i]), LOOP: lambda i: of_ids(maps[i][1], records[i])},
        WHOLE: {
            OURS: lambda i: mappers[1][i](records[i]),
            LOOP: lambda i: straightforward_input(records[i], resizes[i]),
            STRIDED: lambda i: mappers[4][i](records[i]),
        },
    }
    return [
        {"what": what, "images": images, **_milliseconds(runs, len(records), repeats)} for what, runs in ways.items()
    ]


def require_equal(several: Sequence[Targets | Segments]) -> None:
    """Raises RuntimeError where masks, boxes or areas differ."""
    for name in ("masks", "boxes", "areas"):
        arrays = [getattr(targets, name) for targets in several]
        if not all(np.array_equal(array, arrays[0]) for array in arrays):
            raise RuntimeError(f"{name} differ")


def _milliseconds(runs: dict[str, Callable[[int], object]], count: int, repeats: int) -> dict[str, float]:
    whole = {name: lambda run=run: [run(i) for i in range(count)] for name, run in runs.items()}
    seconds = seconds_interleaved(whole, repeats, time.process_time)  # type: ignore[arg-type]
    return {name: 1000 * value / count for name, value in seconds.items()}


def _resize(record: Record) -> T.TransformList:
    """To a short side of 640, without chance, so that all do the same."""
    scale = 640 / min(record["height"], record["width"])
    new_size = round(record["height"] * scale), round(record["width"] * scale)
    return T.TransformList([T.ResizeTransform(record["height"], record["width"], *new_size)])


def _mapper(resize: T.TransformList, stride: int) -> DetrPanopticDatasetMapper:
    return DetrPanopticDatasetMapper(True, augmentations=[_Fixed(resize)], mask_stride=stride)


class _Fixed(T.Augmentation):
    """An augmentation that always is one transform."""

    def __init__(self, transforms: T.TransformList) -> None:
        super().__init__()
        self.transforms = transforms

    def __call__(self, aug_input: Any) -> T.Transform:
        for transform in self.transforms.transforms:
            aug_input.transform(transform)
        return self.transforms


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    others = {name: row.get(name, "") for name in (LOOP, AT_ONCE, STRIDED)}
    times = {f"{name}, × ours": row[name] / row[OURS] for name in (LOOP, AT_ONCE) if name in row}
    return {f"{OURS}, ms": row[OURS], **others, f"{LOOP}, × ours": "", f"{AT_ONCE}, × ours": "", **times}


if __name__ == "__main__":
    sys.exit(run_command(main))
