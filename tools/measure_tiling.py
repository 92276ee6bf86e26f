#!/usr/bin/env python
"""What tiles give on large photos of the yard: PQ by tiles and of the whole, made smaller; and things that seams cut.

A thing is at a seam if it has pixels on both sides of it. It is cut if two segments of its class have a tenth of it
each. Scenes are as the yard makes them: 4000x3000, whose few things fill tiles, and 4096x1024, a panorama.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from benchmarking.measure import machine, peak_above_now
from benchmarking.report import deliver, get_parser, table, use_threads
from tqdm import tqdm

from detr_d2.arguments import whole_number
from detr_d2.errors import run_command
from detr_d2.evaluation.matching import compare_maps
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.results import group_means
from detr_d2.prediction import Prediction, Predictor
from detr_d2.prediction.tiling import Grid, Segmented, stitch, tile_grid
from detr_d2.yard import make_scene

EXAMPLES = """\
example, after the quickstart:
  python tools/measure_tiling.py runs/quickstart/stage2/model_final.pth --write docs/predict.md
"""
#: Width and height of scenes, and the tiles: side and overlap.
CASES = [((4000, 3000), 1024, 256), ((4000, 3000), 2048, 512), ((4096, 1024), 1024, 256)]
_PART = 0.1


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    parser.add_argument("model", metavar="CHECKPOINT", help="a panoptic model of the yard, such as the quickstart's")
    parser.add_argument("--scenes", type=whole_number(1, 1000), default=10, metavar="N", help="(default: 10)")
    args = parser.parse_args()
    use_threads(args.threads)
    predictor = Predictor(args.model, device="cpu")

    rows = [measure(predictor, *case, args.scenes) for case in CASES]
    title = f"{args.scenes} scenes each, {args.model}. {machine(args.threads)}."
    deliver("tiling", f"{title}\n\n{table(rows)}", {"machine": machine(args.threads), "rows": rows}, args)
    return 0


def measure(predictor: Predictor, size: tuple[int, int], tile: int, overlap: int, scenes: int) -> dict[str, Any]:
    """The row of one size of scenes and tiles."""
    labels = {category.name: index for index, category in enumerate(predictor.categories)}
    ids_of = {category.id: index for index, category in enumerate(predictor.categories)}
    is_thing = [category.is_thing for category in predictor.categories]
    whole, tiled = (PanopticQuality(len(labels), keep_images=False) for _ in range(2))
    at_seams = apart = cut = 0
    megabytes = []
    for index in tqdm(range(scenes), f"{size[0]}x{size[1]} by {tile}", unit="scene", disable=None):
        scene = make_scene(index, "val", 0, *size)
        true = [{"id": number + 1, "category_id": labels[name]} for number, name in enumerate(scene.names)]
        true_ids = scene.segments.astype(np.int32) + 1
        true = [one for one in true if (true_ids == one["id"]).any()]
        grid = tile_grid(size[::-1], tile, overlap)
        results = list(_results(predictor, grid, scene.image))
        megabytes.append(peak_above_now(lambda: stitch(grid, results)))  # noqa: B023  called at once
        for quality, (ids, segments) in ((whole, _of(predictor(scene.image))), (tiled, stitch(grid, results))):
            predicted = [{**one, "category_id": ids_of[one["category_id"]]} for one in segments]
            quality.add(compare_maps(true_ids, true, ids, predicted, len(labels)).counts().values())
        seen = [one for one in true if is_thing[one["category_id"]] and is_at_seam(true_ids == one["id"], grid)]
        at_seams += len(seen)
        for min_iou in (1.0, None):
            ids, segments = stitch(grid, results) if min_iou is None else stitch(grid, results, min_iou)
            predicted = [{**one, "category_id": ids_of[one["category_id"]]} for one in segments]
            found = sum(is_cut(true_ids == one["id"], one["category_id"], ids, predicted) for one in seen)
            cut, apart = (cut + found, apart) if min_iou is None else (cut, apart + found)
    row: dict[str, Any] = {"scenes": f"{size[0]}x{size[1]}", "tile": tile, "overlap": overlap}
    for name, quality in (("whole", whole), ("tiled", tiled)):
        row |= {f"PQ {name}, {group}": 100 * one.pq for group, one in group_means(quality, is_thing).items()}
    row |= {"things at seams": at_seams, "cut, not joined, %": 100 * apart / max(at_seams, 1)}
    return row | {"cut, joined, %": 100 * cut / max(at_seams, 1), "stitching, MiB": max(megabytes)}


def _of(prediction: Prediction) -> Segmented:
    assert prediction.panoptic is not None
    return prediction.panoptic, prediction.segments


def _results(predictor: Predictor, grid: Grid, image: np.ndarray) -> Iterator[Segmented]:
    return (_of(predictor(window)) for window in grid.windows(image))


def is_at_seam(mask: np.ndarray, grid: Grid) -> bool:
    """Whether a thing (H, W) has pixels in several tiles' own parts."""
    return sum(bool(mask[row.own, column.own].any()) for row, column in grid) > 1


def is_cut(mask: np.ndarray, category: int, ids: np.ndarray, segments: Sequence[dict[str, Any]]) -> bool:
    """Whether two segments of the thing's class have a tenth of it each."""
    counts = np.bincount(ids[mask], minlength=len(segments) + 1)
    parts = [counts[one["id"]] for one in segments if one["category_id"] == category]
    return sum(part >= _PART * mask.sum() for part in parts) > 1


if __name__ == "__main__":
    sys.exit(run_command(main))
