"""What the classes of a model, of masks or of COCO are called in the dataset that is being made.

COCO's 53 kinds of stuff belong to 15 super-categories, of which there are 16 with ``misc``.

Source: the field ``supercategory`` of the COCO 2017 panoptic annotations (CC BY 4.0); three of its names are shortened,
as the datasets of construction photos have them: food-stuff, furniture-stuff, raw-material.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from detr_d2.data.categories import Category, coco_categories, construction_categories
from detr_d2.labels.class_names import find_name, normal_name
from detr_d2.labels.records import ClassRecord

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
