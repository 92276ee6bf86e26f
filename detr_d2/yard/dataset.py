"""Yard scenes as a COCO panoptic dataset: images, panoptic PNGs and the JSON files that describe them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from ..data.registration_config import write_register
from ..files import write_text, write_whole
from ..folders import new_folder
from ..labels.panoptic_png import encode_ids
from .scene import COLORS, THINGS, Scene, make_scene

CATEGORIES: list[dict[str, Any]] = [
    {"id": number, "name": name, "isthing": int(name in THINGS), "color": list(color)}
    for number, (name, color) in enumerate(COLORS.items(), 1)
]
"""Categories of the yard as COCO writes them: stuff first, ids from 1 on."""

Labels = dict[str, list[dict[str, Any]]]
"""Segments or instances by the image's name, without its suffix."""

_SPLITS = ("train", "val")
_FILES = {"images", "panoptic", "register.yaml"} | {
    f"{kind}_{split}.json" for kind in ("panoptic", "instances") for split in _SPLITS
}


def write_yard(
    folder: str | os.PathLike[str],
    train: int = 600,
    val: int = 60,
    width: int = 160,
    height: int = 128,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """Write a yard dataset: all of it or nothing; a yard dataset that is there already is replaced.

    Args:
        folder: gets ``images/``, ``panoptic/``, ``panoptic_{train,val}.json``, ``instances_{train,val}.json`` and
            ``register.yaml``, which names the datasets ``yard_train`` and ``yard_val``.
        train, val: numbers of scenes.
        width, height: of each image, in pixels.
        seed: a whole number from 0 on; another one gives other scenes.
        progress: show a bar for each split.

    Returns:
        The folder.

    Raises:
        DatasetError: ``folder`` holds something else than a yard dataset.
        ConfigError: see :func:`~detr_d2.yard.scene.make_scene`.
    """
    target = Path(os.path.abspath(folder))
    things = [category for category in CATEGORIES if category["isthing"]]
    with new_folder(target, "yard.json", _FILES, "a yard dataset") as partial:
        for split, count in zip(_SPLITS, (train, val)):
            segments: Labels = {}
            for index in tqdm(range(count), f"{split:6}", unit="scene", disable=not progress):
                scene = make_scene(index, split, seed, width, height)
                name = f"yard_{split}_{index:05d}"
                save_photo(scene, partial / "images" / f"{name}.jpg")
                segments[name] = save_segments(scene, partial / "panoptic" / f"{name}.png")
            write_panoptic(partial / f"panoptic_{split}.json", segments, (width, height))
            write_instances(partial / f"instances_{split}.json", segments, (width, height), things)
        write_register(partial, "yard", _SPLITS)
        made_with = {"train": train, "val": val, "width": width, "height": height, "seed": seed}
        write_text(partial / "yard.json", json.dumps(made_with))
    return target


def save_photo(scene: Scene, path: Path) -> None:
    """The image as a camera's JPEG."""
    image = Image.fromarray(scene.image)
    write_whole(path, lambda file: image.save(file, "JPEG", quality=93, subsampling=0))


def save_segments(scene: Scene, path: Path) -> list[dict[str, Any]]:
    """Write a scene's panoptic PNG and describe its segments, as :func:`segments_info` does."""
    png = encode_ids(scene.segments, segment_ids(scene.names))
    write_whole(path, lambda file: file.write(png))
    return segments_info(scene.segments, scene.names)


def segment_ids(names: Iterable[str]) -> list[int]:
    """Ids in a panoptic PNG for segments of these categories, each close to the category's colour."""
    colors = [COLORS[name] for name in names]
    return [min(red, 230) + number + 256 * green + 65536 * blue for number, (red, green, blue) in enumerate(colors)]


def segments_info(segments: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The segments that are seen, as COCO lists them, each with its mask.

    Args:
        segments: (H, W), index into ``names``.
        names: category of each segment.
    """
    found, category_ids = [], {category["name"]: category["id"] for category in CATEGORIES}
    for number, (name, segment_id) in enumerate(zip(names, segment_ids(names))):
        shape = shape_of(segments == number)
        if shape["area"]:
            found.append({"id": segment_id, "category_id": category_ids[name], "iscrowd": 0, **shape})
    return found


def shape_of(mask: np.ndarray) -> dict[str, Any]:
    """Area, box and run lengths of a mask (H, W), as COCO writes them."""
    runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    segmentation = {"size": list(mask.shape), "counts": runs["counts"].decode("ascii")}
    bbox = [int(side) for side in coco_mask.toBbox(runs)]
    return {"area": int(coco_mask.area(runs)), "bbox": bbox, "segmentation": segmentation}


def without_mask(segment: dict[str, Any]) -> dict[str, Any]:
    """A segment as a panoptic JSON has it, whose masks are in PNGs."""
    return {key: value for key, value in segment.items() if key != "segmentation"}


def write_panoptic(path: Path, labels: Labels, size: tuple[int, int]) -> None:
    """Write the COCO panoptic JSON of images of this width and height, whose PNGs have their names."""
    annotations = [
        {"image_id": number, "file_name": f"{name}.png", "segments_info": [without_mask(one) for one in segments]}
        for number, (name, segments) in enumerate(labels.items(), 1)
    ]
    _write_coco(path, labels, size, {"licenses": [], "categories": CATEGORIES, "annotations": annotations})


def write_instances(
    path: Path,
    labels: Labels,
    size: tuple[int, int],
    categories: Sequence[dict[str, Any]],
    licenses: Sequence[Any] = (),
) -> None:
    """Write the COCO instances JSON of images of this width and height: the labels of these categories."""
    ids = {category["id"] for category in categories}
    flat = [(i, one) for i, found in enumerate(labels.values(), 1) for one in found if one["category_id"] in ids]
    annotations = [{**one, "id": number, "image_id": i} for number, (i, one) in enumerate(flat, 1)]
    _write_coco(path, labels, size, {"licenses": licenses, "categories": categories, "annotations": annotations})


def _write_coco(path: Path, names: Iterable[str], size: tuple[int, int], content: dict[str, Any]) -> None:
    image = {"width": size[0], "height": size[1]}
    images = [{"id": i, "file_name": f"{name}.jpg", **image} for i, name in enumerate(names, 1)]
    write_text(path, json.dumps({"info": {"description": "made-up yard scenes"}, "images": images, **content}))
