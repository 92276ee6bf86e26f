"""Categories: ids, names, order and colours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detr_d2.data import Category, coco_categories, construction_categories, contiguous_order, distinct_colors
from detr_d2.data.categories import rgb_to_lab


def nearest_distance(colors: list[tuple[int, int, int]]) -> float:
    """The smallest distance in CIELAB between two of the colours."""
    lab = rgb_to_lab(np.array(colors))
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return float(distances[~np.eye(len(colors), dtype=bool)].min())


def test_construction_categories_are_16_stuff_then_48_things() -> None:
    categories = construction_categories()

    assert [category.id for category in categories] == list(range(1, 65))
    assert [category.is_thing for category in categories] == [False] * 16 + [True] * 48
    assert (categories[0].name, categories[15].name) == ("misc", "rawmaterial")
    assert (categories[16].name, categories[63].name) == ("aac_blocks", "wood_primer")


def test_construction_categories_equal_a_real_file(shared_data: Path) -> None:
    content = json.loads((shared_data / "construction_sample/annotations/panoptic_val_small.json").read_text())

    found = [(entry["id"], entry["name"], bool(entry["isthing"])) for entry in content["categories"]]

    assert found == [(category.id, category.name, category.is_thing) for category in construction_categories()]


def test_coco_categories_are_80_things_then_53_stuff() -> None:
    categories = coco_categories()

    assert [category.is_thing for category in categories] == [True] * 80 + [False] * 53
    assert (categories[0], categories[79].id) == (Category(1, "person", True, (220, 20, 60)), 90)
    assert (categories[80].id, categories[-1].id, categories[-1].name) == (92, 200, "rug-merged")


def test_coco_categories_equal_a_real_file(shared_data: Path) -> None:
    content = json.loads((shared_data / "coco128_panoptic/val/panoptic.json").read_text())

    found = {(entry["id"], entry["name"], bool(entry["isthing"])) for entry in content["categories"]}

    assert found == {(category.id, category.name, category.is_thing) for category in coco_categories()}


@pytest.mark.parametrize(("categories", "least"), [(construction_categories(), 20), (coco_categories(), 10)])
def test_colors_differ_visibly(categories: tuple[Category, ...], least: float) -> None:
    assert nearest_distance([category.color for category in categories]) > least


def test_lab_equals_published_values() -> None:
    lab = rgb_to_lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]]))

    np.testing.assert_allclose(lab, [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]], atol=0.02)


def test_distinct_colors_begin_alike_whatever_their_number() -> None:
    assert distinct_colors(30)[:7] == distinct_colors(7)
    assert nearest_distance(list(distinct_colors(64))) > 20
    assert distinct_colors(0) == ()


def test_distinct_colors_refuses_more_than_it_has() -> None:
    with pytest.raises(ValueError, match="count=100000"):
        distinct_colors(100_000)


def test_contiguous_order_has_things_first_and_keeps_the_files_order() -> None:
    sky, drum, sand, cone = (
        Category(9 - i, n, n in "drum cone", (0, 0, i)) for i, n in enumerate(["sky", "drum", "sand", "cone"])
    )

    assert contiguous_order([sky, drum, sand, cone]) == [drum, cone, sky, sand]
