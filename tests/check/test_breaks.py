"""Datasets without a fault, broken in each of the ways: exactly that fault is named, with image and segment."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_d2.check import RULES
from tests.check import broken_files, broken_json
from tests.check.breaking import Break, segments_of

#: Faults that come along, as the break has these consequences too.
CONSEQUENCES = {
    "box-outside": {"box-stale"},
    "id-duplicate": {"overlap"},
    "id-range": {"png-unlisted"},
    "id-type": {"png-unlisted"},
    "image-unknown": {"image-unlabelled"},
    "path-duplicate": {"image-unlabelled"},
    "area-sum": {"area-stale"},
    "box-beyond": {"box-stale"},
    "box-off": {"overlap"},
    "polygon-beyond": {"overlap"},
    "polygon-crossing": {"overlap"},
    "polygon-holes": {"overlap"},
    "png-size": {"area-stale", "box-stale", "box-off", "box-outside", "box-beyond"},
    "rle-counts": {"rle-uncompressed"},
    "rle-uncompressed": {"overlap"},
}


@pytest.mark.parametrize(("broken", "code", "named", "panoptic"), [*broken_json.WAYS.cases, *broken_files.WAYS.cases])
@settings(max_examples=3, deadline=None, database=None)
@given(seed=st.integers(0, 2**32), number=st.integers(0, 2), which=st.integers(0, 1))
def test_break_is_named_with_its_image_and_segment(
    build: Any, broken: Break, code: str, named: tuple[bool, bool], panoptic: bool, seed: int, number: int, which: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder), seed, panoptic)
        image = built.content["images"][number]
        segment = segments_of(built, image)[which]

        broken(built, image, segment)
        found = built.faults()

    about = [fault for fault in found if fault.code == code]
    assert {fault.code for fault in found} - CONSEQUENCES.get(code, set()) == {code}, found
    assert len(about) == 1
    assert about[0].severity == RULES[code].severity
    assert about[0].image_id == (image["id"] if named[0] else None)
    assert about[0].segment_id == (segment["id"] if named[1] else None)
    assert about[0].message and about[0].fix


@settings(max_examples=10, deadline=None, database=None)
@given(seed=st.integers(0, 2**32), panoptic=st.booleans())
def test_dataset_without_a_fault_has_none(build: Any, seed: int, panoptic: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = build(Path(folder), seed, panoptic).faults()

    assert found == []


def test_every_kind_of_fault_of_one_json_has_a_way_to_break() -> None:
    broken = {case.values[1] for case in [*broken_json.WAYS.cases, *broken_files.WAYS.cases]}

    assert set(RULES) - broken == {
        *(
            "json-missing",
            "json-broken",
            "json-large",
            "json-empty",
            "json-repeated",
            "folder-missing",
            "json-other",
            "folder-unknown",
        ),
        *("id-shared", "crowd-only", "split-leak", "split-near"),
        *("export-broken", "shape-undrawn", "objects-missing"),
    }


def test_table_of_the_documentation_is_that_of_the_rules() -> None:
    project = Path(__file__).parents[2]
    documentation = (project / "docs" / "data.md").read_text(encoding="utf-8")
    rules = (project / "detr_d2" / "labels" / "rules" / "rules.md").read_text(encoding="utf-8")

    assert rules[rules.index("### ") :] in f"{documentation}\n", "docs/data.md shows the table of rules.md"


def test_every_rule_of_the_table_has_its_code_and_every_code_its_rule() -> None:
    package = Path(__file__).parents[2] / "detr_d2"
    files = [path for room in ("labels", "check", "data", "evaluation") for path in (package / room).rglob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in files)

    assert [name for name in RULES if f'"{name}"' not in code] == []
    assert set(re.findall(r"""\.found\(\s*["']([^"']+)""", code)) <= set(RULES)
