"""COCO's 53 kinds of stuff and the 15 super-categories they belong to, of which 16 with ``misc``.

Source: the field ``supercategory`` of the COCO 2017 panoptic annotations (CC BY 4.0); three of its names are shortened,
as the datasets of construction photos have them: food-stuff, furniture-stuff, raw-material.
"""

from __future__ import annotations

from functools import cache

from detr_d2.data.categories import Category, coco_categories, construction_categories

#: What isn't named: other people's things, and the rest of a picture.
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
    pairs: dict[str, str] = {}
    for line in _MEMBERS.strip().splitlines():
        name, members = line.split(": ")
        pairs.update((member, name) for member in members.split(", "))
    return pairs


@cache
def super_categories() -> tuple[Category, ...]:
    """``misc`` and the 15 others, with the ids and colours that the construction datasets give them."""
    return tuple(category for category in construction_categories() if not category.is_thing)


@cache
def coco_stuff() -> tuple[Category, ...]:
    """``misc`` and COCO's 53 kinds of stuff."""
    return (super_categories()[0], *(category for category in coco_categories() if not category.is_thing))
