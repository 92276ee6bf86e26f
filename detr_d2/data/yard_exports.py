"""Yard scenes as people would have labelled them in CVAT, with what usually goes wrong, and the truth beside them.

Two people each labelled half of the scenes and exported "COCO 1.0". Things are drawn whole, the nearer ones later, so
they overlap. Some classes were painted with the brush, which CVAT exports as crowds. File names collide, one person
writes a class's name another way, and one object was left without a mask. Stuff comes as masks from elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from PIL import Image
from pycocotools import mask as coco_mask

from .new_folder import new_folder
from .yard import STUFF, STUFF_COLORS, THINGS, Scene, make_scene
from .yard_dataset import Progress, panoptic_truth, save_panoptic_png, save_photo, write_json, yard_categories

MARKER = "yard_exports.json"
"""A folder with this file was written by this module and may be written again."""

EXPORTS = ("north_gate", "south_gate")
"""One export each; scenes go to them in turn."""

BRUSHED = frozenset({"cone", "barrow"})
"""Classes that were painted with the brush: run lengths with ``iscrowd: 1``."""

OTHER_NAMES = {"north_gate": {}, "south_gate": {"brick_stack": " Brick stack"}}
"""How a person spells a class that the other one spells as the yard does."""

_FILES = {"cvat", "stuff", "truth"}


def write_yard_exports(
    folder: str | os.PathLike[str],
    pictures: int = 660,
    width: int = 160,
    height: int = 128,
    seed: int = 0,
    progress: Progress = lambda numbers, split: numbers,
) -> Path:
    """Write the scenes as exports to be prepared: all of it or nothing.

    Args:
        folder: gets ``cvat/<export>/annotations/instances_default.json`` and ``cvat/<export>/images/``; ``stuff/`` with
            a mask for each picture and ``classes.yaml``; and ``truth/``, a COCO panoptic JSON with its PNGs. In the
            last two pictures are named ``<export>/<file>``.
        pictures: number of scenes.
        width, height: of each picture, in pixels.
        seed: a whole number from 0 on; another one gives other scenes.
        progress: wraps the scene numbers, to show how far it is.

    Returns:
        The folder.

    Raises:
        DatasetError: ``folder`` holds something else than such exports.
    """
    target = Path(os.path.abspath(folder))
    with new_folder(target, MARKER, _FILES, "a folder of yard exports") as partial:
        jobs = {name: _Job(partial, name) for name in EXPORTS}
        truth: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        for number in progress(range(pictures), "scenes"):
            scene = make_scene(number, "train", seed, width, height)
            jobs[EXPORTS[number % len(EXPORTS)]].add(scene)
            _write_truth(partial, scene, EXPORTS[number % len(EXPORTS)], number, truth)
        for job in jobs.values():
            job.finish()
        legend = "".join(f"{number}: {name}\n" for number, name in enumerate(STUFF, 1))
        (partial / "stuff" / "classes.yaml").write_text(legend, encoding="utf-8")
        write_json(partial / "truth" / "panoptic.json", {**truth, "categories": yard_categories()})
        write_json(partial / MARKER, {"pictures": pictures, "width": width, "height": height, "seed": seed})
    return target


class _Job:
    """One person's export in CVAT's "COCO 1.0"."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / "cvat" / name
        (self._folder / "images").mkdir(parents=True)
        (self._folder / "annotations").mkdir()
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        spelled = [OTHER_NAMES[name].get(thing, thing) for thing in THINGS]
        self._categories = [{"id": i, "name": text, "supercategory": ""} for i, text in enumerate(spelled, 1)]

    def add(self, scene: Scene) -> None:
        """The next scene, with a label for each thing."""
        height, width = scene.segments.shape
        image_id = len(self._images) + 1
        name = f"{image_id:04d}.jpg"
        save_photo(scene, self._folder / "images" / name)
        self._images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for category, outline in zip(scene.names, scene.outlines):
            if category in THINGS:
                self._annotate(image_id, category, outline)
        if image_id == 1:
            self._append(image_id, THINGS[0], {"segmentation": [], "area": 0.0, "bbox": [0.0, 0.0, 0.0, 0.0]})

    def finish(self) -> None:
        """Write the JSON."""
        content = {
            "licenses": [{"name": "", "id": 0, "url": ""}],
            "info": {"description": "made-up yard scenes"},
            "categories": self._categories,
            "images": self._images,
            "annotations": self._annotations,
        }
        write_json(self._folder / "annotations" / "instances_default.json", content)

    def _annotate(self, image_id: int, category: str, outline: np.ndarray) -> None:
        runs = coco_mask.encode(np.asfortranarray(outline, dtype=np.uint8))
        measured = {"area": float(coco_mask.area(runs)), "bbox": [float(side) for side in coco_mask.toBbox(runs)]}
        if category in BRUSHED:
            self._append(image_id, category, {"segmentation": _run_lengths(outline), **measured, "iscrowd": 1})
        else:
            self._append(image_id, category, {"segmentation": polygons_of(outline), **measured})

    def _append(self, image_id: int, category: str, label: dict[str, Any]) -> None:
        number = len(self._annotations) + 1
        entry = {"id": number, "image_id": image_id, "category_id": THINGS.index(category) + 1, "iscrowd": 0}
        self._annotations.append({**entry, "attributes": {"occluded": False}, **label})


def polygons_of(mask: np.ndarray) -> list[list[float]]:
    """Polygons along the edges of a mask's pixels, without holes, each x0, y0, x1, y1, ...; drawn, they are the mask.

    Args:
        mask: (H, W) bool.
    """
    rows = []
    for y, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(line.astype(np.int8), prepend=0, append=0))
        rows += [shapely.box(left, y, right, y + 1) for left, right in edges.reshape(-1, 2)]
    pieces = list(shapely.get_parts(shapely.unary_union(rows)))
    polygons = []
    while pieces:
        piece = pieces.pop()
        if piece.geom_type == "Polygon" and not piece.interiors:
            polygons.append(np.asarray(piece.exterior.simplify(0).coords)[:-1].ravel().tolist())
        elif piece.geom_type == "Polygon":
            pieces += _cut(piece)
    return polygons


def _cut(polygon: Any) -> list[Any]:
    """A polygon with a hole in two, along a column of pixels through the hole."""
    left, low, right, high = polygon.bounds
    hole = polygon.interiors[0].bounds
    column = int(hole[0] + hole[2]) // 2
    sides = shapely.box(left, low, column, high), shapely.box(column, low, right, high)
    return [part for side in sides for part in shapely.get_parts(polygon & side)]


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed run lengths, column by column, as CVAT writes its brush."""
    pixels = mask.T.ravel()
    starts = np.flatnonzero(np.diff(pixels, prepend=False))
    counts = np.diff(starts, prepend=0, append=pixels.size)
    return {"size": [int(side) for side in mask.shape], "counts": counts.tolist()}


def _write_truth(folder: Path, scene: Scene, export: str, number: int, truth: dict[str, list[dict[str, Any]]]) -> None:
    """The stuff's mask, which a person or a model gave, and the panoptic truth."""
    name = f"{number // len(EXPORTS) + 1:04d}"
    for part in ("stuff", "truth"):
        (folder / part / export).mkdir(parents=True, exist_ok=True)
    of_segment = np.array([STUFF.index(name) + 1 if name in STUFF else 0 for name in scene.names], np.uint8)
    mask = Image.fromarray(of_segment[scene.segments], mode="P")
    mask.putpalette([0, 0, 0, *(side for color in STUFF_COLORS.values() for side in color)])
    mask.save(folder / "stuff" / export / f"{name}.png")
    ids, segments = panoptic_truth(scene, yard_categories())
    save_panoptic_png(ids, folder / "truth" / export / f"{name}.png")
    height, width = ids.shape
    image = {"id": number + 1, "file_name": f"{export}/{name}.jpg", "width": width, "height": height}
    truth["images"].append(image)
    annotation = {"image_id": number + 1, "file_name": f"{export}/{name}.png", "segments_info": segments}
    truth["annotations"].append(annotation)
