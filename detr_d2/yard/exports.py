"""Yard scenes as people would have labelled them in CVAT, with what usually goes wrong, and the ground truth.

Two people each labelled half of the scenes and exported "COCO 1.0". Things are drawn whole, the nearer ones later, so
they overlap. Some classes were painted with the brush, which CVAT exports as crowds. File names collide, one person
writes a class's name another way, and one object was left without a mask. Stuff comes as masks from elsewhere.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..files import write_text, write_whole
from ..folders import new_folder
from ..labels.polygons import polygons_of, run_lengths
from .dataset import Labels, save_photo, save_segments, shape_of, write_instances, write_panoptic
from .scene import STUFF, STUFF_COLORS, THINGS, Scene, make_scene

EXPORTS: dict[str, dict[str, str]] = {"north_gate": {}, "south_gate": {"brick_stack": " Brick stack"}}
"""The exports, and how each spells a class otherwise than the yard does; scenes go to them in turn."""

BRUSHED = frozenset({"cone", "barrow"})
"""Classes that were painted with the brush: run lengths with ``iscrowd: 1``."""

_LICENSES = [{"name": "", "id": 0, "url": ""}]
_OPTIONS = {"iscrowd": 0, "attributes": {"occluded": False}}
_EMPTY = {"category_id": 1, "segmentation": [], "area": 0.0, "bbox": [0.0, 0.0, 0.0, 0.0], **_OPTIONS}
"""A label without a mask; each export's first image has one."""


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
        width, height: of each image, in pixels.
        seed: a whole number from 0 on; another one gives other scenes.
        progress: show a bar.

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
            write_instances(path, labels, (width, height), categories, _LICENSES)
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
