"""The yard as files: a COCO panoptic dataset; or what people export from CVAT, with what usually goes wrong.

In the exports two people each labelled half of the scenes. Things are drawn whole, the nearer ones later, so they
overlap. Some classes were painted with the brush, which CVAT exports as crowds. File names collide, one person writes
a class's name another way, and one object was left without a mask. Stuff comes as masks from elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..data.registration import write_register
from ..files import write_text, write_whole
from ..folders import new_folder
from ..labels.panoptic_png import encode_ids
from ..labels.polygons import polygons_of
from ..labels.run_lengths import run_lengths
from .scene import (
    CATEGORIES,
    STUFF,
    STUFF_COLORS,
    THINGS,
    Scene,
    make_scene,
    segment_ids,
    segments_info,
    shape_of,
    without_mask,
)

EXPORTS: dict[str, dict[str, str]] = {"north_gate": {}, "south_gate": {"brick_stack": " Brick stack"}}
"""The exports, and how each spells a class otherwise than the yard does; scenes go to them in turn."""

BRUSHED = frozenset({"cone", "barrow"})
"""Classes that were painted with the brush: run lengths with ``iscrowd: 1``."""

Labels = dict[str, list[dict[str, Any]]]
"""Segments or instances by the image's name, without its suffix."""

_SPLITS = ("train", "val")
_FILES = {"images", "panoptic", "register.yaml"} | {
    f"{kind}_{split}.json" for kind in ("panoptic", "instances") for split in _SPLITS
}
_OPTIONS = {"iscrowd": 0, "attributes": {"occluded": False}}
#: A label without a mask; each export's first image has one.
_EMPTY = {"category_id": 1, "segmentation": [], "area": 0.0, "bbox": [0.0, 0.0, 0.0, 0.0], **_OPTIONS}


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


def write_yard_exports(
    folder: str | os.PathLike[str],
    images: int = 660,
    width: int = 160,
    height: int = 128,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """Write the scenes as exports to be prepared: all of it or nothing.

    Args:
        folder: gets ``cvat/<export>/annotations/instances_default.json`` and ``cvat/<export>/images/``; ``stuff/`` with
            a mask for each image and ``classes.yaml``; and ``ground_truth/``, a COCO panoptic JSON with its PNGs. In
            the last two images are named ``<export>/<file>``.
        images: number of scenes.
        width, height, seed, progress: as for :func:`write_yard`.

    Returns:
        The folder.

    Raises:
        DatasetError: ``folder`` holds something else than such exports.
    """
    target = Path(os.path.abspath(folder))
    files = {"cvat", "stuff", "ground_truth"}
    with new_folder(target, "yard_exports.json", files, "a folder of yard exports") as partial:
        segments: Labels = {}
        for first, (export, spelled) in enumerate(EXPORTS.items()):
            labels: Labels = {}
            for index in tqdm(range(first, images, len(EXPORTS)), export, unit="scene", disable=not progress):
                scene, name = make_scene(index, "train", seed, width, height), f"{len(labels) + 1:04d}"
                save_photo(scene, partial / "cvat" / export / "images" / f"{name}.jpg")
                labels[name] = _labels(scene) + ([] if labels else [_EMPTY])
                _save_stuff(scene, partial / "stuff" / export / f"{name}.png")
                path = partial / "ground_truth" / export / f"{name}.png"
                segments[f"{export}/{name}"] = save_segments(scene, path)
            names = enumerate((spelled.get(name, name) for name in THINGS), 1)
            categories = [{"id": number, "name": name, "supercategory": ""} for number, name in names]
            path = partial / "cvat" / export / "annotations" / "instances_default.json"
            write_instances(path, labels, (width, height), categories, [{"name": "", "id": 0, "url": ""}])
        legend = "".join(f"{number}: {name}\n" for number, name in enumerate(STUFF, 1))
        write_text(partial / "stuff" / "classes.yaml", legend)
        write_panoptic(partial / "ground_truth" / "panoptic.json", segments, (width, height))
        made_with = {"images": images, "width": width, "height": height, "seed": seed}
        write_text(partial / "yard_exports.json", json.dumps(made_with))
    return target


def _labels(scene: Scene) -> list[dict[str, Any]]:
    """What a person draws of a scene's things: all of each, as polygons or with the brush."""
    labels = []
    for name, outline in zip(scene.names, scene.outlines):
        if name in THINGS:
            shape, is_brushed = shape_of(outline), name in BRUSHED
            runs = {"size": list(outline.shape), "counts": run_lengths(outline)}
            label = {"iscrowd": int(is_brushed), "segmentation": runs if is_brushed else polygons_of(outline)}
            measured = {"area": float(shape["area"]), "bbox": [float(side) for side in shape["bbox"]]}
            labels.append({**_OPTIONS, "category_id": THINGS.index(name) + 1, **label, **measured})
    return labels


def _save_stuff(scene: Scene, path: Path) -> None:
    """The mask of the stuff, which a person or a model gave: 1 and up in the order of ``STUFF``, 0 for the rest."""
    numbers = np.array([STUFF.index(name) + 1 if name in STUFF else 0 for name in scene.names], np.uint8)
    mask = Image.fromarray(numbers[scene.segments], mode="P")
    mask.putpalette([0, 0, 0, *(side for color in STUFF_COLORS.values() for side in color)])
    write_whole(path, lambda file: mask.save(file, "PNG"))


def save_photo(scene: Scene, path: Path) -> None:
    """The image as a camera's JPEG."""
    image = Image.fromarray(scene.image)
    write_whole(path, lambda file: image.save(file, "JPEG", quality=93, subsampling=0))


def save_segments(scene: Scene, path: Path) -> list[dict[str, Any]]:
    """Write a scene's panoptic PNG and describe its segments, as :func:`segments_info` does."""
    png = encode_ids(scene.segments, segment_ids(scene.names))
    write_whole(path, lambda file: file.write(png))
    return segments_info(scene.segments, scene.names)


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
