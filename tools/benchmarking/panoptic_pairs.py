"""Panoptic ground truth, and predictions a few pixels off, to measure evaluation with: smooth random segments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

NUM_CLASSES, NUM_THINGS = 20, 12


class Pair(NamedTuple):
    """An image's true map (H, W) int32 and segments, and the predicted ones; classes are 0 ... NUM_CLASSES - 1."""

    true_map: np.ndarray
    true_segments: list[dict[str, Any]]
    predicted_map: np.ndarray
    predicted_segments: list[dict[str, Any]]


def make_pairs(count: int, height: int, width: int, segments: int, seed: int = 0) -> list[Pair]:
    """Images of so many segments that fill them, with wavy edges and ids of 24 bits, as COCO's are."""
    rng = np.random.default_rng(seed)
    return [_pair(height, width, segments, rng) for _ in range(count)]


def write_files(pairs: list[Pair], folder: Path) -> tuple[Path, Path]:
    """Ground truth and predictions as panoptic JSON files with their PNGs; the paths of the JSON files."""
    categories = [{"id": i, "name": f"class {i}", "isthing": int(i < NUM_THINGS)} for i in range(NUM_CLASSES)]
    paths = folder / "truth.json", folder / "predictions.json"
    for number, path in enumerate(paths):
        path.with_suffix("").mkdir(parents=True, exist_ok=True)
        annotations = []
        for image_id, pair in enumerate(pairs):
            ids, segments = pair[2 * number : 2 * number + 2]
            name = f"{image_id}.png"
            save_png(ids, path.with_suffix("") / name)
            annotations.append({"image_id": image_id, "file_name": name, "segments_info": segments})
        path.write_text(json.dumps({"annotations": annotations, "categories": categories}), encoding="utf-8")
    return paths


def colors_of(ids: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of ids (H, W): red + 256 green + 65536 blue."""
    return np.ascontiguousarray(ids.astype("<u4")[:, :, None].view(np.uint8)[:, :, :3])


def save_png(ids: np.ndarray, path: Path) -> None:
    """Write a panoptic PNG."""
    Image.fromarray(colors_of(ids)).save(path)


def _pair(height: int, width: int, segments: int, rng: np.random.Generator) -> Pair:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    centers = rng.uniform(0, 1, (segments, 2)).astype(np.float32) * [height, width]
    waves = 4 * np.sin(x / 17 + y / 23)
    nearest = np.full((height, width), np.inf, dtype=np.float32)
    numbers = np.zeros((height, width), dtype=np.int64)
    for number, (row, column) in enumerate(centers):
        distance = np.hypot(y - row, x - column) + waves * np.cos(number)
        closer = distance < nearest
        nearest[closer], numbers[closer] = distance[closer], number
    classes = rng.integers(NUM_CLASSES, size=segments)
    true_map, true_segments = _with_ids(numbers, classes, rng)
    shifted = np.roll(numbers, (3, 5), axis=(0, 1))
    wrong = np.where(rng.uniform(size=segments) < 0.2, rng.integers(NUM_CLASSES, size=segments), classes)
    return Pair(true_map, true_segments, *_with_ids(shifted, wrong, rng))


def _with_ids(
    numbers: np.ndarray, classes: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    ids = 1 + rng.choice(256**3 - 2, size=len(classes), replace=False)
    areas = np.bincount(numbers.ravel(), minlength=len(classes))
    segments = [
        {"id": int(ids[i]), "category_id": int(classes[i]), "iscrowd": 0, "area": int(areas[i])}
        for i in np.flatnonzero(areas)
    ]
    return ids[numbers].astype(np.int32), segments
