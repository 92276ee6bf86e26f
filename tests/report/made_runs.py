"""Evaluation folders made up for the tests: truth of any kind, and predictions with mistakes of every kind in it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_d2.data.categories import Category
from detr_d2.evaluation.overlaps import joint_histogram

PREVIEW_SIDE = 320


@dataclass
class MadeImage:
    """An image's files, its ground truth and a prediction; segments have "id", "class", and "iscrowd" or "score"."""

    image_id: Any
    file_name: str
    png: str
    true_map: np.ndarray
    true: list[dict[str, Any]]
    predicted_map: np.ndarray
    predicted: list[dict[str, Any]]


def write_run(folder: Path, images: Iterable[MadeImage], categories: Sequence[Category]) -> Path:
    """Records, run and previews, as an evaluation writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with (
        (folder / "records.jsonl").open("w", encoding="utf-8") as records,
        zipfile.ZipFile(folder / "previews.zip", "w") as previews,
    ):
        for image in images:
            records.write(json.dumps(record_of(image)) + "\n")
            previews.writestr(f"{image.image_id}.png", preview_of(image))
            count += 1
    known = [{"id": c.id, "name": c.name, "is_thing": c.is_thing, "color": list(c.color)} for c in categories]
    run = {"dataset": "made_val", "categories": known, "weights": "model_final.pth", "config": "MODEL:\n  A: 1\n"}
    run |= {"versions": {"detr_d2": "0", "torch": "2"}, "commit": "abc", "seconds": 1.5, "images": count, "seed": 0}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


def record_of(image: MadeImage) -> dict[str, Any]:
    true_ids, predicted_ids, pixels = (part.tolist() for part in joint_histogram(image.true_map, image.predicted_map))
    areas = dict(zip(*(part.tolist() for part in np.unique(image.predicted_map, return_counts=True))))
    height, width = image.true_map.shape
    return {
        **{"image_id": image.image_id, "file_name": image.file_name, "height": height, "width": width},
        "pan_seg_file_name": image.png,
        "true": image.true,
        "predicted": [segment | {"area": areas[segment["id"]]} for segment in image.predicted],
        "overlaps": [list(entry) for entry in zip(true_ids, predicted_ids, pixels)],
    }


def preview_of(image: MadeImage) -> bytes:
    ids = [0, *(segment["id"] for segment in image.predicted)]
    places = {segment_id: place for place, segment_id in enumerate(ids)}
    step = max(1, -(-max(image.predicted_map.shape) // PREVIEW_SIDE))
    small = image.predicted_map[::step, ::step]
    found, inverse = np.unique(small, return_inverse=True)
    labels = np.array([places[i] for i in found.tolist()], np.uint8)[inverse.reshape(small.shape)]
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def predict(
    true_map: np.ndarray, true: Sequence[dict[str, Any]], num_classes: int, rng: np.random.Generator, skill: float
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The truth with mistakes: the less ``skill`` (0 to 1), the more. Ids are numbered from 1 on."""
    result = np.zeros_like(true_map)
    segments: list[dict[str, Any]] = []

    def put(mask: np.ndarray, label: int, right: bool) -> None:
        if mask.any():
            segments.append({"id": len(segments) + 1, "class": label, "score": score(rng, right)})
            result[mask] = len(segments)

    for segment in true:
        mask, label = true_map == segment["id"], segment["class"]
        fate = "right" if rng.random() < skill else rng.choice(["missed", "class", "split", "cut", "part", "second"])
        columns = np.flatnonzero(mask.any(axis=0))
        middle = int(np.median(np.nonzero(mask)[1])) if len(columns) else 0
        left = np.arange(mask.shape[1])[None, :] < middle
        if fate == "right":
            put(np.roll(mask, int(rng.integers(-2, 3)), axis=1), label, True)
        elif fate == "class":
            put(mask, int(label + rng.integers(1, 4)) % num_classes, False)
        elif fate == "split":
            put(mask & left, label, False)
            put(mask & ~left, label, False)
        elif fate == "cut":
            put(mask & left & (np.arange(mask.shape[0])[:, None] % 4 > 0), label, False)
        elif fate == "part":
            put(mask & (np.arange(mask.shape[0])[:, None] % 8 == 0), label, False)
        elif fate == "second":
            edge = np.arange(mask.shape[1])[None, :] < (columns[0] * 3 + middle) // 4 if len(columns) else left
            put(mask & ~edge, label, True)
            put(mask & edge, label, False)
    if rng.random() > skill:
        top = np.zeros(true_map.shape, bool)
        top[: true_map.shape[0] // 6, : true_map.shape[1] // 4] = True
        put(top, int(rng.integers(num_classes)), False)
    there = set(np.unique(result).tolist())
    return result, [segment for segment in segments if segment["id"] in there]


def score(rng: np.random.Generator, right: bool) -> float:
    return float(np.clip(rng.normal(0.95 if right else 0.9, 0.04), 0.85, 0.999))


def made_images(
    folder: Path, count: int, categories: Sequence[Category], skill: float = 0.6, seed: int = 0
) -> Iterator[MadeImage]:
    """Blocks of classes in tiny images, the last class never among them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        true_map = np.kron(rng.permutation(12).reshape(3, 4), np.ones((16, 16), np.int64)).astype(np.int64)
        true_map[true_map == 0] = 0
        true = [
            {"id": i, "class": int(rng.integers(len(categories) - 1)), "area": 256, "iscrowd": 0} for i in range(1, 12)
        ]
        photo, png = folder / f"photo <{number}>.png", folder / f"truth {number}.png"
        Image.fromarray((true_map * 20).astype(np.uint8)).convert("RGB").save(photo)
        Image.fromarray(np.stack([true_map, true_map * 0, true_map * 0], -1).astype(np.uint8)).save(png)
        predicted_map, predicted = predict(true_map, true, len(categories), rng, skill)
        yield MadeImage(number, str(photo), str(png), true_map, true, predicted_map, predicted)
