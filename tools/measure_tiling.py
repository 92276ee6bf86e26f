#!/usr/bin/env python
"""What tiles give on large photos of the yard: PQ by tiles and of the whole, made smaller; and things that seams cut.

A thing is at a seam if it has pixels on both sides of it. It is cut if two segments of its class have a tenth of it
each. Scenes are as the yard makes them: 4000x3000, whose few things fill tiles; 4096x1024, a panorama; and nine scenes
side by side, a large photo of small things.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from benchmarking.measure import machine
from benchmarking.report import deliver, get_parser, table, use_threads
from tqdm import tqdm

from detr_d2.arguments import whole_number
from detr_d2.errors import run_command
from detr_d2.evaluation.matching import compare_maps
from detr_d2.evaluation.panoptic_quality import PanopticQuality
from detr_d2.evaluation.results import group_means
from detr_d2.prediction import Prediction, Predictor
from detr_d2.prediction.tiling import Grid, Segmented, stitch, tile_grid
from detr_d2.yard import THINGS, make_scene

EXAMPLES = """\
example, after the quickstart:
  python tools/measure_tiling.py runs/quickstart/stage2/model_final.pth --write docs/predict.md
"""
#: Width and height of photos, scenes along each side, and the tiles: side and overlap.
CASES = [
    ((4000, 3000), 1, 1024, 256),
    ((4000, 3000), 1, 2048, 512),
    ((3999, 3000), 3, 1024, 256),
    ((4096, 1024), 1, 1024, 256),
]
_PART = 0.1


def main() -> int:
    parser = get_parser(__doc__, EXAMPLES)
    parser.add_argument("model", metavar="CHECKPOINT", help="a panoptic model of the yard, such as the quickstart's")
    parser.add_argument("--photos", type=whole_number(1, 1000), default=10, metavar="N", help="(default: 10)")
    args = parser.parse_args()
    use_threads(args.threads)
    predictor = Predictor(args.model, device="cpu")

    rows = [measure(predictor, *case, args.photos) for case in CASES]
    title = f"{args.photos} photos each, {args.model}. {machine(args.threads)}."
    deliver("tiling", f"{title}\n\n{table(rows)}", {"machine": machine(args.threads), "rows": rows}, args)
    return 0


def photo(index: int, size: tuple[int, int], side: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A photo (H, W, 3) of ``side`` times ``side`` scenes, its map of ids (H, W) from 1 on, and their categories."""
    width, height = size[0] // side, size[1] // side
    scenes = [make_scene(index * side * side + number, "val", 0, width, height) for number in range(side * side)]
    names: list[str] = []
    first: dict[str, int] = {}
    maps = []
    for scene in scenes:
        ids = []
        for name in scene.names:
            if name in THINGS or name not in first:
                names.append(name)
            first.setdefault(name, len(names))
            ids.append(len(names) if name in THINGS else first[name])
        maps.append(np.array(ids, np.int32)[scene.segments])
    rows = [slice(row * side, (row + 1) * side) for row in range(side)]
    image = np.vstack([np.hstack([scene.image for scene in scenes[row]]) for row in rows])
    return image, np.vstack([np.hstack(maps[row]) for row in rows]), names


def measure(
    predictor: Predictor, size: tuple[int, int], side: int, tile: int, overlap: int, photos: int
) -> dict[str, Any]:
    """The row of one size of photos and tiles."""
    labels = {category.name: index for index, category in enumerate(predictor.categories)}
    ids_of = {category.id: index for index, category in enumerate(predictor.categories)}
    is_thing = [category.is_thing for category in predictor.categories]
    whole, tiled = (PanopticQuality(len(labels), keep_images=False) for _ in range(2))
    at_seams = apart = cut = 0
    for index in tqdm(range(photos), f"{size[0]}x{size[1]} by {tile}", unit="photo", disable=None):
        image, true_ids, names = photo(index, size, side)
        true = [{"id": number, "category_id": labels[name]} for number, name in enumerate(names, 1)]
        true = [one for one in true if (true_ids == one["id"]).any()]
        grid = tile_grid(size[::-1], tile, overlap)
        results = list(_results(predictor, grid, image))
        for quality, (ids, segments) in ((whole, _of(predictor(image))), (tiled, stitch(grid, results))):
            predicted = [{**one, "category_id": ids_of[one["category_id"]]} for one in segments]
            quality.add(compare_maps(true_ids, true, ids, predicted, len(labels)).counts().values())
        seen = [one for one in true if is_thing[one["category_id"]] and is_at_seam(true_ids == one["id"], grid)]
        at_seams += len(seen)
        for min_iou in (1.0, None):
            ids, segments = stitch(grid, results) if min_iou is None else stitch(grid, results, min_iou)
            predicted = [{**one, "category_id": ids_of[one["category_id"]]} for one in segments]
            found = sum(is_cut(true_ids == one["id"], one["category_id"], ids, predicted) for one in seen)
            cut, apart = (cut + found, apart) if min_iou is None else (cut, apart + found)
    row: dict[str, Any] = {
        "photo": f"{size[0]}x{size[1]}",
        "scenes in it": side * side,
        "tile": tile,
        "overlap": overlap,
    }
    for name, quality in (("whole", whole), ("tiled", tiled)):
        row |= {f"PQ {name}, {group}": 100 * one.pq for group, one in group_means(quality, is_thing).items()}
    row |= {"things at seams": at_seams, "cut, not joined, %": 100 * apart / max(at_seams, 1)}
    return row | {"cut, joined, %": 100 * cut / max(at_seams, 1)}


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
