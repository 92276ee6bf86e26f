"""The rules of a plan: rows, queries, learning rates; and that the document shows the same ones."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest

from detr_d2.plan.rules import (
    RECIPES,
    SOURCES,
    learning_rate_for,
    queries_for,
    recipe_for,
)


def recipes_table() -> str:
    """The rows in Markdown, as docs/recipes.md shows them."""
    lines = [
        "| photos | stage 1, from `detr-r50-panoptic` | passes | stage 2 | passes | batch | what to expect | from |",
        "|---|---|---|---|---|---|---|---|",
    ]
    stages = {"joint": "boxes and masks together", "boxes": "boxes"}
    for row in RECIPES:
        cells = [f"{row.images:,}", stages[row.first], row.passes, "masks, detector frozen", row.mask_passes]
        cells += [row.batch, row.expect, ", ".join(row.sources)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def sources_table() -> str:
    """The sources in Markdown, as docs/recipes.md shows them."""
    rows = [f"| {key} | {address} | {found} |" for key, (address, found) in SOURCES.items()]
    return "\n".join(["| key | where | what it says |", "|---|---|---|", *rows])


def test_document_shows_the_rules(project_folder: Path) -> None:
    document = (project_folder / "docs" / "recipes.md").read_text(encoding="utf-8")

    assert f"<!-- rules -->\n{recipes_table()}\n<!-- end of rules -->" in document
    assert f"<!-- sources -->\n{sources_table()}\n<!-- end of sources -->" in document


def test_every_row_names_known_sources() -> None:
    for row in RECIPES:
        assert row.sources and set(row.sources) <= {*SOURCES, "rule"}
    assert all(re.match(r"https://\S+$", address) for address, _ in SOURCES.values())


def test_rows_are_themselves_at_their_number_and_between_their_neighbours_elsewhere() -> None:
    for row in RECIPES:
        assert recipe_for(row.images) == row
    for low, high in itertools.pairwise(RECIPES):
        between = recipe_for(round(math.sqrt(low.images * high.images)))
        assert high.passes <= between.passes <= low.passes and high.mask_passes <= between.mask_passes
        assert between.batch in (low.batch, high.batch)
    assert recipe_for(1).passes == RECIPES[0].passes and recipe_for(10**6).passes == RECIPES[-1].passes


def test_more_photos_are_never_seen_fewer_times_in_all() -> None:
    shown = [count * recipe_for(count).passes for count in (1, 20, 50, 120, 200, 600, 2000, 6000, 20000, 60000)]

    assert shown == sorted(shown)


@pytest.mark.parametrize(
    ("most", "at_least", "expected"),
    [(10, 100, 100), (66, 100, 100), (67, 100, 105), (120, 100, 180), (1, 0, 5), (10, 25, 25), (20, 25, 30)],
)
def test_queries_are_those_of_the_start_unless_an_image_needs_more(most: int, at_least: int, expected: int) -> None:
    assert queries_for(most, at_least) == expected


def test_learning_rate_goes_with_the_root_of_the_batch() -> None:
    assert learning_rate_for(1e-4, 16, 16) == 1e-4
    assert learning_rate_for(1e-4, 16, 4) == 5e-5
    assert learning_rate_for(1e-4, 16, 2) == 3.5e-5
