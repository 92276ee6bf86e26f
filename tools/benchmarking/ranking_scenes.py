"""Scenes of the yard for measuring a ranking: few with rare things, and, in series, many photos of few places."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detr_d2.data.registration import write_register
from detr_d2.files import write_text
from detr_d2.yard import CATEGORIES, Scene, make_scene
from detr_d2.yard.dataset import Labels, save_photo, save_segments, write_instances, write_panoptic

SIZE = (160, 128)
RARE = ("cone", "barrow")
RARE_SHARE = 0.12
#: A place of a series is drawn so much larger, and each of its photos shows a part.
MARGIN, PHOTOS_OF_A_PLACE = 12, 10


def plain_scenes(count: int) -> Iterator[tuple[str, Scene]]:
    """Scenes as the yard makes them, each with a name."""
    return ((f"{index:06d}", make_scene(index, "val", 0, *SIZE)) for index in range(count))


def thinned(seed: int, count: int, first: int = 0, size: tuple[int, int] = SIZE) -> Iterator[tuple[str, Scene]]:
    """Scenes of which those with a rare kind of thing are mostly left out."""
    rng = np.random.default_rng([seed, first])
    index = first
    while count:
        scene = make_scene(index, "train", seed, *size)
        if not set(RARE) & set(scene.names) or rng.random() < RARE_SHARE:
            count -= 1
            yield f"{index:06d}", scene
        index += 1


def series_pool(seed: int, count: int) -> Iterator[tuple[str, Scene]]:
    """Half of the photos are of single places, half of few places, ten of each from a step aside."""
    yield from thinned(seed, count // 2, first=2 * 10**5)
    rng, wide = np.random.default_rng([seed, 3]), (SIZE[0] + MARGIN, SIZE[1] + MARGIN)
    places = (count - count // 2) // PHOTOS_OF_A_PLACE
    for place, scene in thinned(seed, places, 3 * 10**5, wide):
        for photo in range(PHOTOS_OF_A_PLACE):
            x, y = rng.integers(0, MARGIN + 1, 2)
            part = np.s_[y : y + SIZE[1], x : x + SIZE[0]]
            noise = rng.normal(0, 4, (SIZE[1], SIZE[0], 3))
            image = (scene.image[part] + noise).clip(0, 255).astype(np.uint8)
            outlines = scene.outlines[(slice(None), *part)]
            yield f"place{place}_{photo}", Scene(image, scene.segments[part], scene.names, outlines)


def one_of_each(names: Iterable[str]) -> Iterator[str]:
    """The first photo of each place, in the names' order."""
    seen = set()
    for name in names:
        place = name.rsplit("_", 1)[0] if "_place" in name else name
        if place not in seen:
            seen.add(place)
            yield name


def write_scenes(folder: Path, made: Iterable[tuple[str, Scene]], prefix: str) -> Labels:
    """Writes images and panoptic PNGs of scenes that aren't there yet, and returns the labels by name."""
    known = folder / "labels.json"
    if known.is_file():
        return dict(json.loads(known.read_text(encoding="utf-8")))
    labels: Labels = {}
    for name, scene in tqdm(made, prefix, unit="scene", disable=None):
        name = f"{prefix}_{name}"
        save_photo(scene, folder / "images" / f"{name}.jpg")
        labels[name] = save_segments(scene, folder / "panoptic" / f"{name}.png")
    write_text(known, json.dumps(labels))
    return labels


def write_split(folder: Path, name: str, labels: Labels) -> None:
    """The JSON files of some labels; their images are below the same folder."""
    things = [category for category in CATEGORIES if category["isthing"]]
    write_panoptic(folder / f"panoptic_{name}.json", labels, SIZE)
    write_instances(folder / f"instances_{name}.json", labels, SIZE, things)
    write_register(folder, "yard", (name,))


def rare_scenes(labels: Labels) -> int:
    """How many scenes have a rare kind of thing."""
    rare = {category["id"] for category in CATEGORIES if category["name"] in RARE}
    return sum(any(one["category_id"] in rare for one in segments) for segments in labels.values())
