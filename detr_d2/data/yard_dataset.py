"""Yard scenes on disk: pictures, panoptic PNGs and the JSON files that describe them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from .new_folder import new_folder
from .yard import STUFF, STUFF_COLORS, THINGS, Scene, make_scene
from .yard_pen import Color
from .yard_shapes import SHAPES

MARKER = "yard.json"
"""A folder with this file was written by this module and may be written again."""

_JPEG_QUALITY = 93

Progress = Callable[[Iterable[int], str], Iterable[int]]


def yard_categories() -> list[dict[str, Any]]:
    """Categories of the yard as COCO writes them: stuff first, ids from 1 on."""
    colors: dict[str, Color] = {**STUFF_COLORS, **{name: shape.color for name, shape in SHAPES.items()}}
    return [
        {"id": number, "name": name, "isthing": int(name in SHAPES), "color": list(colors[name])}
        for number, name in enumerate(STUFF + THINGS, 1)
    ]


def write_yard(
    folder: str | os.PathLike[str],
    train: int = 600,
    val: int = 60,
    width: int = 160,
    height: int = 128,
    seed: int = 0,
    progress: Progress = lambda numbers, split: numbers,
) -> Path:
    """Write a yard dataset: all of it or nothing.

    It is written beside ``folder`` and then renamed; a yard dataset that is there already is replaced.

    Args:
        folder: gets ``images/``, ``panoptic/``, ``panoptic_{train,val}.json``, ``instances_{train,val}.json`` and
            ``register.yaml``, which names the datasets ``yard_train`` and ``yard_val``.
        train, val: numbers of scenes.
        width, height: of each picture, in pixels.
        seed: a whole number from 0 on; another one gives other scenes.
        progress: wraps the scene numbers of a split, to show how far it is.

    Returns:
        The folder.

    Raises:
        DatasetError: ``folder`` holds something else than a yard dataset.
    """
    target = Path(os.path.abspath(folder))
    with new_folder(target, MARKER, _FILES, "a yard dataset") as partial:
        for part in ("images", "panoptic"):
            (partial / part).mkdir()
        for split, count in (("train", train), ("val", val)):
            _write_split(partial, split, progress(range(count), split), width, height, seed)
        (partial / "register.yaml").write_text(_REGISTER, encoding="utf-8")
        made_with = {"train": train, "val": val, "width": width, "height": height, "seed": seed}
        write_json(partial / MARKER, made_with)
    return target


_REGISTER = "".join(
    f"- name: yard_{split}\n"
    f"  images: images\n"
    f"  panoptic_json: panoptic_{split}.json\n"
    f"  panoptic_root: panoptic\n"
    f"  instances_json: instances_{split}.json\n"
    for split in ("train", "val")
)

_FILES = {"images", "panoptic", "register.yaml"} | {
    f"{kind}_{split}.json" for kind in ("panoptic", "instances") for split in ("train", "val")
}


def _write_split(folder: Path, split: str, numbers: Iterable[int], width: int, height: int, seed: int) -> None:
    categories = yard_categories()
    images: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    for number in numbers:
        scene = make_scene(number, split, seed, width, height)
        name = f"yard_{split}_{number:05d}"
        save_photo(scene, folder / "images" / f"{name}.jpg")
        image_id = len(images) + 1
        image = {"id": image_id, "file_name": f"{name}.jpg", "width": width, "height": height}
        ids, segments = panoptic_truth(scene, categories)
        save_panoptic_png(ids, folder / "panoptic" / f"{name}.png")
        images.append(image)
        panoptic.append({"image_id": image_id, "file_name": f"{name}.png", "segments_info": segments})
        instances += _instances(ids, segments, categories, image_id, len(instances))
    described = {"info": {"description": "made-up yard scenes"}, "licenses": [], "images": images}
    write_json(folder / f"panoptic_{split}.json", {**described, "annotations": panoptic, "categories": categories})
    things = [category for category in categories if category["isthing"]]
    write_json(folder / f"instances_{split}.json", {**described, "annotations": instances, "categories": things})


def save_photo(scene: Scene, path: Path) -> None:
    """The picture as a camera's JPEG."""
    Image.fromarray(scene.image).save(path, quality=_JPEG_QUALITY, subsampling=0)


def save_panoptic_png(ids: np.ndarray, path: Path) -> None:
    """Ids (H, W) as red + 256 green + 65536 blue."""
    png = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(png).save(path)


def panoptic_truth(scene: Scene, categories: list[dict[str, Any]]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Ids (H, W) close to the category's colour, and the segments with the areas and boxes that the ids have."""
    by_name = {category["name"]: category for category in categories}
    ids = np.zeros(scene.segments.shape, np.int64)
    segments = []
    for number, name in enumerate(scene.names):
        mask = scene.segments == number
        if not mask.any():
            continue
        red, green, blue = by_name[name]["color"]
        segment_id = (min(red, 230) + number) + 256 * green + 65536 * blue
        ids[mask] = segment_id
        segments.append(
            {
                "id": segment_id,
                "category_id": by_name[name]["id"],
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": _bbox(mask),
            }
        )
    return ids, segments


def _bbox(mask: np.ndarray) -> list[int]:
    """x, y, width, height of a mask (H, W)."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]


def _instances(
    ids: np.ndarray, segments: list[dict[str, Any]], categories: list[dict[str, Any]], image_id: int, start: int
) -> list[dict[str, Any]]:
    """The things among ``segments`` as COCO instances with run lengths; their ids follow ``start``."""
    things = {category["id"] for category in categories if category["isthing"]}
    found: list[dict[str, Any]] = []
    for segment in segments:
        if segment["category_id"] in things:
            runs = coco_mask.encode(np.asfortranarray(ids == segment["id"], dtype=np.uint8))
            counts = {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")}
            number = start + len(found) + 1
            found.append({**segment, "id": number, "image_id": image_id, "segmentation": counts})
    return found


def write_json(path: Path, content: Any) -> None:
    """JSON into a folder that isn't in its place yet."""
    path.write_text(json.dumps(content), encoding="utf-8")
