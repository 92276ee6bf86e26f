"""Policies for the rest of an image, which people didn't label: what they are, and the two that look at nothing.

What the classes of a model, of masks or of COCO are called in the dataset that is being made: COCO's 53 kinds of stuff
belong to 15 super-categories, of which there are 16 with ``misc``.

Source: the field ``supercategory`` of the COCO 2017 panoptic annotations (CC BY 4.0); three of its names are shortened,
as the datasets of construction photos have them: food-stuff, furniture-stuff, raw-material.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from scipy import ndimage

from detr_d2.data.categories import Category, coco_categories, construction_categories
from detr_d2.labels.records import ClassRecord, ImageRecord, Note
from detr_d2.labels.rules.categories import find_name, normal_name

from ..options import ForeignThings, StuffClasses

#: What isn't named: other people's things, and the rest of an image.
MISC = "misc"

_MEMBERS = """
water: river, sea, water-other
ground: gravel, platform, playingfield, railroad, road, sand, snow, pavement-merged, dirt-merged
solid: mountain-merged, rock-merged
sky: sky-other-merged
plant: flower, tree-merged, grass-merged
structural: net, fence-merged
building: bridge, house, roof, tent, building-other-merged
food: fruit, food-other-merged
textile: banner, blanket, curtain, pillow, towel, rug-merged
furniture: counter, door-stuff, light, mirror-stuff, shelf, stairs, cabinet-merged, table-merged
window: window-blind, window-other
floor: floor-wood, floor-other-merged
ceiling: ceiling-merged
wall: wall-brick, wall-stone, wall-tile, wall-wood, wall-other-merged
rawmaterial: cardboard, paper-merged
"""


@cache
def super_category_of() -> dict[str, str]:
    """The super-category of each of COCO's 53 kinds of stuff, by name."""
    lines = [line.split(": ") for line in _MEMBERS.strip().splitlines()]
    return {member: name for name, members in lines for member in members.split(", ")}


@cache
def super_categories() -> tuple[Category, ...]:
    """``misc`` and the 15 others, with the ids and colours that the construction datasets give them."""
    return tuple(category for category in construction_categories() if not category.is_thing)


@cache
def coco_stuff() -> tuple[Category, ...]:
    """``misc`` and COCO's 53 kinds of stuff."""
    return (super_categories()[0], *(category for category in coco_categories() if not category.is_thing))


@cache
def _coco_names() -> dict[str, str]:
    """COCO's own spelling of a name, by the normal name."""
    return {normal_name(category.name): category.name for category in coco_categories()}


@cache
def _coco_things() -> frozenset[str]:
    return frozenset(category.name for category in coco_categories() if category.is_thing)


@dataclass(frozen=True)
class ClassMapping:
    """COCO's stuff as super-categories or as it is; things as ``misc`` or void; names that COCO lacks stay.

    Args:
        classes: ``super`` or ``coco``.
        things: ``misc`` or ``void``.
    """

    classes: StuffClasses = "super"
    things: ForeignThings = "misc"

    def name_of(self, name: str, is_thing: bool | None = None) -> str:
        """A class's name in the dataset, or an empty one for void.

        Args:
            name: as the model or the file has it; matched as all names of classes are.
            is_thing: None where nobody says; then COCO's things are things and all else is stuff.
        """
        coco = find_name(name, _coco_names())
        if coco in _coco_things() if is_thing is None else is_thing:
            return MISC if self.things == "misc" else ""
        if coco is None or coco in _coco_things():
            return name
        return super_category_of()[coco] if self.classes == "super" else coco

    def records(self, names: Iterable[str] = ()) -> tuple[ClassRecord, ...]:
        """The stuff classes that may come out: the usual ones, and those of ``names`` that COCO lacks.

        Args:
            names: all classes of stuff that the model or the files know.
        """
        usual = super_categories() if self.classes == "super" else coco_stuff()
        records = {category.name: ClassRecord(category.name, False, category.color) for category in usual}
        for name in names:
            found = self.name_of(name, False)
            records.setdefault(found, ClassRecord(found, False))
        return tuple(records.values())


Source: TypeAlias = Literal["human", "model", "masks", "coco", "rest"]
"""Who says so: a person; a model; masks from elsewhere; COCO's annotators; nobody, it is what was left."""


@dataclass(frozen=True)
class Region:
    """A piece of stuff in one image.

    Args:
        class_name: one of the policy's categories; several regions of a class become one segment. Empty: void, which
            other regions must not fill.
        mask: (H, W) bool; what isn't free is cut off, and where regions overlap the first one wins.
        source: who says so.
        score: of a model, 0 to 1, or None.
    """

    class_name: str
    mask: np.ndarray
    source: Source
    score: float | None = None


class StuffPolicy:
    """Labels what people didn't. It can be pickled, and is sent to other processes after :meth:`prepare`.

    Its ``repr`` names everything that its answers depend on, as an interrupted run goes on only with the same policy.

    Attributes:
        categories: the stuff classes it may give, ``is_thing`` False.
        needs_pixels: whether it looks at the image.
        notes: what :meth:`prepare` has to say, for the report.
    """

    categories: tuple[ClassRecord, ...] = ()
    needs_pixels = False
    notes: tuple[Note, ...] = ()

    def prepare(self, images: Sequence[ImageRecord], work_folder: Path) -> None:
        """Called once, in the main process, before any image's turn; a model is run here.

        Args:
            images: named ``<export>/<name>``, as in :meth:`__call__`; ``prepare.pixels.read_pixels`` reads one.
            work_folder: there for this policy alone; what is put there survives an interruption.
        """

    def files_of(self, name: str) -> Sequence[Path]:
        """The files beside the image's own that its stuff is read from; other files, or changed ones, other stuff.

        Called after :meth:`prepare`. What is the same for all images belongs into the ``repr`` instead.
        """
        return ()

    def __call__(self, pixels: np.ndarray | None, free: np.ndarray, name: str) -> list[Region]:
        """The stuff of one image; called in a worker process.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright as the labels are; None where the policy doesn't need them.
            free: (H, W) bool, where no person labelled anything.
            name: ``<export>/<name>`` of the image.

        Raises:
            DatasetError: the image can't be labelled; it is left out, and the report says why.
        """
        return []


class NoStuff(StuffPolicy):
    """The rest is void: training and evaluation leave it alone."""

    def __repr__(self) -> str:
        return "NoStuff()"


class MiscStuff(StuffPolicy):
    """The rest is one segment of the class ``misc``.

    Args:
        margin: pixels around people's labels that become void, as hand-drawn borders are never exact.
    """

    def __init__(self, margin: int = 0) -> None:
        self.categories = (ClassRecord(MISC, False, super_categories()[0].color),)
        self.margin = margin

    def __call__(self, pixels: np.ndarray | None, free: np.ndarray, name: str) -> list[Region]:
        """All that is free, beyond the margin."""
        return [Region(MISC, beyond_margin(free, self.margin), "rest")]

    def __repr__(self) -> str:
        return f"MiscStuff(margin={self.margin})"


def beyond_margin(free: np.ndarray, margin: int) -> np.ndarray:
    """Where ``free`` is on and everything within ``margin`` pixels, measured as the crow flies, is on too.

    Args:
        free: (H, W) bool; what lies outside of the image counts as free.
        margin: in pixels; 0 changes nothing.

    Returns:
        (H, W) bool.
    """
    if margin < 1 or free.all() or not free.any():
        return free
    rows, columns = np.flatnonzero(~free.all(axis=1)), np.flatnonzero(~free.all(axis=0))
    reach = math.ceil(margin) + 1
    window = (
        slice(max(rows[0] - reach, 0), rows[-1] + reach + 1),
        slice(max(columns[0] - reach, 0), columns[-1] + reach + 1),
    )
    result = free.copy()
    result[window] = ndimage.distance_transform_edt(free[window]) > margin
    return result


def mean_score(parts: Iterable[tuple[int, float | None]]) -> float | None:
    """The mean score of some regions by their pixels, over those that have a score; None where none has.

    Args:
        parts: pixels and score of each.
    """
    scored = [(area, score) for area, score in parts if score is not None]
    total = sum(area for area, _ in scored)
    return round(sum(area * score for area, score in scored) / total, 4) if total else None
