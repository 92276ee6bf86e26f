"""A polygon inside a polygon of one object is a hole: for ``check``, for ``check --fix`` and for ``prepare`` alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from detr_d2.data import read_panoptic_png
from detr_d2.labels.polygons import polygons_mask, solid_parts
from tests.faults.preparing import HEIGHT, WIDTH, annotation, box_ring, check, prepare, read_json, write_export
from tests.prepare.made_exports import META, xml_files

OUTER, HOLE, ISLAND = box_ring(4, 4, 44, 36), box_ring(10, 10, 22, 18), box_ring(13, 12, 19, 16)
FILLED, CUT = 40 * 32, 40 * 32 - 12 * 8
#: What the area may say of a hole: what is so, a little more or less, the area without a hole, and nonsense.
AREAS = [CUT, 1.03 * CUT, 0.97 * CUT, FILLED, 1.2 * FILLED, 5.0, None, "many"]


def export_of(folder: Path, rings: Sequence[list[float]], **changed: Any) -> Path:
    return write_export(folder, 1, annotations=[annotation(1, 1, rings, **changed)])


def codes_of(dataset: Path, folder: Path) -> list[str]:
    """The kinds of faults that ``check`` finds, each as often as it is there."""
    check(dataset, "--json", folder / "faults.json")
    return [one["code"] for one in read_json(folder / "faults.json")["faults"]]


def prepared_mask(folder: Path, export: Path, *words: str) -> np.ndarray:
    """(H, W) bool: where the only object of the only image is."""
    out = folder / f"made{len(list(folder.glob('made*')))}"
    assert prepare("--cvat", export, "--val", "0", *words, "--out", out) == 0
    return read_panoptic_png(str(out / "panoptic" / export.name / "0.png")) > 0


def fixed_mask(folder: Path, export: Path) -> np.ndarray:
    """As above, of the only object in the repaired copy, where it is written as run lengths."""
    assert check(export, "--fix", folder / "fixed") == 0
    (entry,) = read_json(folder / "fixed" / "coco.json")["annotations"]
    mask: np.ndarray = coco_mask.decode(entry["segmentation"]).astype(bool)
    assert entry["area"] == mask.sum()
    return mask


def holed() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:36, 4:44] = True
    mask[10:18, 10:22] = False
    return mask


@pytest.mark.parametrize("area", AREAS)
def test_a_hole_is_reported_and_cut_whatever_the_area_says(tmp_path: Path, area: Any) -> None:
    export = export_of(tmp_path / "site", [OUTER, HOLE], area=area)

    assert codes_of(export, tmp_path).count("polygon-holes") == 1
    assert (prepared_mask(tmp_path, export) == holed()).all()
    assert (fixed_mask(tmp_path, export) == holed()).all()
    assert "polygon-holes" not in codes_of(tmp_path / "fixed", tmp_path)


@pytest.mark.parametrize("area", [CUT, 1.03 * CUT, 0.97 * CUT, FILLED])
def test_a_hole_whose_area_is_near_is_the_only_fault(tmp_path: Path, area: float) -> None:
    export = export_of(tmp_path / "site", [OUTER, HOLE], area=area)

    assert codes_of(export, tmp_path) == ["polygon-holes"] and check(export) == 1


def test_prepare_says_that_it_cuts_holes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared_mask(tmp_path, export_of(tmp_path / "site", [OUTER, HOLE]))

    assert "1 labels have polygons inside polygons" in capsys.readouterr().err
    notes = read_json(tmp_path / "made0" / "report.json")["notes"]
    assert notes["polygon-holes"]["count"] == 1


def test_prepare_fills_holes_if_it_is_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = export_of(tmp_path / "site", [OUTER, HOLE], area=CUT)

    mask = prepared_mask(tmp_path, export, "--holes", "fill")

    assert mask.sum() == FILLED and "filled" in capsys.readouterr().err
    assert read_json(tmp_path / "made0" / "report.json")["options"]["holes"] == "fill"


def test_what_lies_in_a_hole_is_not_an_overlap(tmp_path: Path) -> None:
    inner = annotation(2, 1, [ISLAND])
    export = write_export(tmp_path / "site", 1, annotations=[annotation(1, 1, [OUTER, HOLE]), inner])

    assert codes_of(export, tmp_path) == ["polygon-holes"]
    assert prepare("--cvat", export, "--overlap", "error", "--val", "0", "--out", tmp_path / "made") == 0


CASES = {
    "hole first": ([HOLE, OUTER], CUT, True),
    "island": ([ISLAND, OUTER, HOLE], CUT + 24, True),
    "two holes": ([OUTER, HOLE, box_ring(30, 20, 40, 30)], CUT - 100, True),
    "hole a little beyond the edge": ([OUTER, box_ring(3.7, 10, 14, 18)], FILLED - 80, True),
    "hole of both of two that overlap": ([OUTER, box_ring(8, 2, 46, 30), HOLE], FILLED + 2 * 26 + 2 * 38 - 96, True),
    "overlap": ([OUTER, box_ring(30, 10, 46, 20)], FILLED + 20, False),
    "apart": ([box_ring(2, 2, 12, 12), box_ring(20, 2, 30, 12)], 200, False),
    "side by side": ([box_ring(2, 2, 12, 12), box_ring(12, 2, 20, 12)], 180, False),
    "twice": ([OUTER, OUTER], FILLED, False),
    "twice, roughly": ([OUTER, box_ring(4.2, 4.2, 43.9, 35.8)], FILLED, False),
    "a sliver": ([OUTER, [10, 10, 20, 10, 20, 10.02, 10, 10.02]], FILLED, False),
}


@pytest.mark.parametrize("name", CASES)
def test_rings_are_holes_only_where_they_lie_in_one_another(tmp_path: Path, name: str) -> None:
    rings, pixels, is_holed = CASES[name]
    entry = annotation(1, 1, rings, area=pixels)
    points = np.concatenate([np.reshape(ring, (-1, 2)) for ring in rings])
    left, top, right, bottom = (float(side) for side in (*points.min(axis=0), *points.max(axis=0)))
    entry["bbox"] = [left, top, right - left, bottom - top]
    export = write_export(tmp_path / "site", 1, annotations=[entry])

    found = codes_of(export, tmp_path)
    mask = prepared_mask(tmp_path, export)

    assert found == ["polygon-holes"] * is_holed
    assert abs(int(mask.sum()) - pixels) <= 2
    if is_holed:
        assert (fixed_mask(tmp_path, export) == mask).all()


def xml_export(folder: Path, groups: tuple[int, int]) -> Path:
    """Two polygons, one in the other, of an XML of CVAT."""
    shapes = "".join(
        f'<polygon label="brick" group_id="{group}" points="{points}" z_order="0" />'
        for group, points in zip(groups, ("4,4;34,4;34,24;4,24", "10,10;20,10;20,18;10,18"))
    )
    for name, content in xml_files(shapes, META).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("groups", "code", "areas"), [((3, 3), "polygon-holes", [520]), ((0, 0), "overlap", [80, 520])]
)
def test_polygons_that_cvat_grouped_are_one_object_with_a_hole(
    tmp_path: Path, groups: tuple[int, int], code: str, areas: list[int]
) -> None:
    export = xml_export(tmp_path / "site", groups)

    assert codes_of(export, tmp_path) == [code]
    assert prepare("--cvat", export, "--val", "0", "--out", tmp_path / "made") == 0

    (only,) = read_json(tmp_path / "made" / "panoptic_train.json")["annotations"]
    assert sorted(segment["area"] for segment in only["segments_info"]) == areas


SIDES = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20), st.integers(1, 20))


@settings(max_examples=150, deadline=None)
@given(st.lists(SIDES, min_size=1, max_size=7))
def test_rings_that_do_not_cross_are_filled_by_even_and_odd(boxes: list[tuple[int, int, int, int]]) -> None:
    """The usual rule for nested outlines, for boxes that are at least a pixel apart or one in another."""
    apart: list[tuple[int, int, int, int]] = []
    for left, top, width, height in boxes:
        box = (left, top, left + width, top + height)
        if all(_is_apart(box, other) or _is_in(box, other) or _is_in(other, box) for other in apart):
            apart.append(box)
    expected = np.zeros((64, 64), bool)
    for left, top, right, bottom in apart:
        expected[top:bottom, left:right] ^= True

    mask = polygons_mask([box_ring(*box) for box in apart], 64, 64)

    assert (mask == expected).all()


def _is_apart(one: Sequence[int], other: Sequence[int]) -> bool:
    return one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]


def _is_in(one: Sequence[int], other: Sequence[int]) -> bool:
    return other[0] < one[0] and other[1] < one[1] and one[2] < other[2] and one[3] < other[3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(-30, 90), min_size=6, max_size=14), min_size=1, max_size=6))
def test_any_rings_can_be_drawn(values: list[list[int]]) -> None:
    rings = [[float(value) for value in ring[: len(ring) // 2 * 2]] for ring in values]

    parts = solid_parts(rings)
    mask = polygons_mask(rings, 50, 60)

    assert sorted(place for place, _ in parts) == [place for place, _ in parts]
    assert mask.sum() <= polygons_mask(rings, 50, 60, fills_holes=True).sum()
