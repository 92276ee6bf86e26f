"""Categories: what a dataset's ids mean, in which order the model counts them, and in which colours they are drawn."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from detr_d2.labels.rules.categories import normal_name


@dataclass(frozen=True)
class Category:
    """One category of a dataset.

    Args:
        id: dataset id, as the JSON says it.
        name: as the JSON says it.
        is_thing: countable (True), or stuff (False).
        color: red, green, blue in 0..255.
    """

    id: int
    name: str
    is_thing: bool
    color: tuple[int, int, int]

    def to_json(self) -> dict[str, Any]:
        """As COCO's files and those that list categories have it."""
        return {"id": self.id, "name": self.name, "isthing": int(self.is_thing), "color": list(self.color)}


def contiguous_order(categories: Iterable[Category]) -> list[Category]:
    """The categories by contiguous id: all things, then all stuff, each in the order they came in."""
    return sorted(categories, key=lambda category: not category.is_thing)


@cache
def construction_categories() -> tuple[Category, ...]:
    """The 64 construction categories in the order of their dataset ids: stuff 1 to 16, things 17 to 64.

    Stuff is COCO's super-categories, in colours that remind of it; the things' colours are as far from those and from
    one another as 64 colours can be, measured in CIELAB.
    """
    return _listed("construction")


@cache
def coco_categories() -> tuple[Category, ...]:
    """COCO's 133 panoptic categories in the order of their dataset ids: things 1 to 90, stuff 92 to 200.

    Source: Kirillov et al. 2019, "Panoptic Segmentation", and the COCO 2017 annotations (CC BY 4.0).
    """
    return _listed("coco")


def rgb_to_lab(colors: np.ndarray) -> np.ndarray:
    """CIELAB (N, 3) of sRGB colours (N, 3) in 0..255, under daylight D65; distances there are roughly as perceived.

    Source: IEC 61966-2-1 (sRGB) and CIE 15 (CIELAB).
    """
    encoded = np.asarray(colors, dtype=np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    relative = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    root = np.where(relative > 216 / 24389, np.cbrt(relative), (24389 / 27 * relative + 16) / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@cache
def distinct_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """So many colours, each as far from the earlier ones as there is one; always the same ones in the same order.

    Raises:
        ValueError: more colours than the grid that they come from has.
    """
    levels = np.arange(0, 256, 15)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = rgb_to_lab(grid)
    usable = (lab[:, 0] > 18) & (lab[:, 0] < 96)  # neither black nor white: masks are drawn over photos
    grid, lab = grid[usable], lab[usable]
    if not 0 <= count <= len(grid):
        raise ValueError(f"count={count}; allowed are 0 to {len(grid)} colours.")
    chosen: list[int] = []
    nearest = np.full(len(grid), np.inf)
    current = int(np.argmin(np.linalg.norm(lab - rgb_to_lab(np.array([220, 20, 60])), axis=1)))
    for _ in range(count):
        chosen.append(current)
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[current], axis=1))
        current = int(np.argmax(nearest))
    return tuple((int(grid[i, 0]), int(grid[i, 1]), int(grid[i, 2])) for i in chosen)


@cache
def known_things() -> Mapping[str, int]:
    """1 or 0, a thing or stuff, of the categories of COCO and of construction, by their normal names."""
    known = (*coco_categories(), *construction_categories())
    return {normal_name(category.name): int(category.is_thing) for category in known}


@cache
def coco_super_categories() -> Mapping[str, str]:
    """The super-category of each of COCO's 53 kinds of stuff, by name.

    Source: the field ``supercategory`` of the COCO 2017 panoptic annotations (CC BY 4.0); three of its names are
    shortened, as the datasets of construction photos have them: food-stuff, furniture-stuff, raw-material.
    """
    return {row["name"]: row["super"] for row in _rows("coco") if row["super"]}


def _listed(name: str) -> tuple[Category, ...]:
    """Categories of a list in ``categories.csv``."""
    return tuple(
        Category(int(row["id"]), row["name"], row["isthing"] == "1", (color[0], color[1], color[2]))
        for row in _rows(name)
        for color in [bytes.fromhex(row["color"].removeprefix("#"))]
    )


def _rows(name: str) -> list[dict[str, str]]:
    with open(Path(__file__).with_name("categories.csv"), encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["list"] == name]
