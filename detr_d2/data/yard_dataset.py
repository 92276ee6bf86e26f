"""Yard scenes on disk: pictures, panoptic PNGs and the JSON files that describe them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ..errors import DatasetError
from ..files import current_umask
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
    _refuse_foreign(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        for part in ("images", "panoptic"):
            (partial / part).mkdir()
        for split, count in (("train", train), ("val", val)):
            _write_split(partial, split, progress(range(count), split), width, height, seed)
        (partial / "register.yaml").write_text(_REGISTER, encoding="utf-8")
        made_with = {"train": train, "val": val, "width": width, "height": height, "seed": seed}
        _write_json(partial / MARKER, made_with)
        partial.chmod(0o777 & ~current_umask())
        _put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


_REGISTER = "".join(
    f"- name: yard_{split}\n"
    f"  images: images\n"
    f"  panoptic_json: panoptic_{split}.json\n"
    f"  panoptic_root: panoptic\n"
    f"  instances_json: instances_{split}.json\n"
    for split in ("train", "val")
)

_FILES = {"images", "panoptic", "register.yaml", MARKER} | {
    f"{kind}_{split}.json" for kind in ("panoptic", "instances") for split in ("train", "val")
}


def _refuse_foreign(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise DatasetError(f"{target} is there and isn't a folder; name another one.")
    if not target.is_dir():
        return
    found = {entry.name for entry in target.iterdir()}
    if found and MARKER not in found:
        raise DatasetError(
            f"{target} holds files, but no {MARKER}, so it isn't a yard dataset and stays as it is; "
            "name a new or an empty folder."
        )
    if foreign := sorted(found - _FILES):
        raise DatasetError(
            f"{target} is a yard dataset that also holds {', '.join(foreign[:5])}; it would be lost. "
            "Move it away or name another folder."
        )


def _put_in_place(partial: Path, target: Path) -> None:
    """Rename ``partial`` to ``target``; what was there goes only once the new one stands."""
    if not target.exists():
        partial.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    target.rename(old / "data")
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _write_split(folder: Path, split: str, numbers: Iterable[int], width: int, height: int, seed: int) -> None:
    categories = yard_categories()
    images: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    for number in numbers:
        scene = make_scene(number, split, seed, width, height)
        name = f"yard_{split}_{number:05d}"
        Image.fromarray(scene.image).save(folder / "images" / f"{name}.jpg", quality=_JPEG_QUALITY, subsampling=0)
        image_id = len(images) + 1
        image = {"id": image_id, "file_name": f"{name}.jpg", "width": width, "height": height}
        ids, segments = _panoptic(scene, categories)
        png = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(png).save(folder / "panoptic" / f"{name}.png")
        images.append(image)
        panoptic.append({"image_id": image_id, "file_name": f"{name}.png", "segments_info": segments})
        instances += _instances(ids, segments, categories, image_id, len(instances))
    described = {"info": {"description": "made-up yard scenes"}, "licenses": [], "images": images}
    _write_json(folder / f"panoptic_{split}.json", {**described, "annotations": panoptic, "categories": categories})
    things = [category for category in categories if category["isthing"]]
    _write_json(folder / f"instances_{split}.json", {**described, "annotations": instances, "categories": things})


def _panoptic(scene: Scene, categories: list[dict[str, Any]]) -> tuple[np.ndarray, list[dict[str, Any]]]:
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


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
