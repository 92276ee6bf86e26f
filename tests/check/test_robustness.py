"""Files of any content: clear faults, never a traceback, and nothing changed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from detr_d2.check import RULES, Source, Sources, dataset_faults
from detr_d2.check.report import Findings
from detr_d2.labels.run_lengths import decompressed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def codes(path: Path, **folders: str) -> list[str]:
    return [found.code for found in dataset_faults(Sources((Source(str(path), **folders),)))]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "json-broken"),
        (b'{"images": [', "json-broken"),
        (b"\xff\xfe\x00", "json-broken"),
        (b'{"images": ' + b"9" * 5000 + b"}", "json-broken"),
        (b"[" * 200_000, "json-broken"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "json-broken"),
        (b"[]", "json-type"),
        (b"null", "json-type"),
        (b'{"images": 5, "annotations": [], "categories": []}', "json-type"),
        (b'{"images": [5], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "json-type"),
        (b"{}", "json-key"),
        (b'{"x": NaN, "images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "json-number"),
    ],
)
def test_wrong_json_is_a_fault_of_the_file(tmp_path: Path, text: bytes, code: str) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(text)

    assert code in codes(path)


def test_missing_json_is_a_fault(tmp_path: Path) -> None:
    assert codes(tmp_path / "labels.json") == ["json-missing"]


@settings(max_examples=60, deadline=None, database=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_as_json_are_faults_only(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.json"
        path.write_bytes(content)

        assert set(codes(path)) <= set(RULES)


@settings(max_examples=60, deadline=None, database=None)
@given(data=st.data(), panoptic=st.booleans())
def test_any_value_in_any_place_is_faults_only(build: Any, data: st.DataObject, panoptic: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder), 0, panoptic)
        place, key = built.content, data.draw(st.sampled_from(sorted(built.content)))
        while isinstance(place[key], (list, dict)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            key = data.draw(st.sampled_from(range(len(place)) if isinstance(place, list) else sorted(place)))
        place[key] = data.draw(JSON)

        assert {found.code for found in built.faults()} <= set(RULES)


@settings(max_examples=40, deadline=None, database=None)
@given(image=st.binary(max_size=100), cut=st.integers(0, 100), png=st.booleans())
def test_any_bytes_in_images_are_faults_only(build: Any, image: bytes, cut: int, png: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder), 0, panoptic=True)
        path = built.png() if png else built.image()
        path.write_bytes(path.read_bytes()[:cut] + image)
        before = sorted(Path(folder).rglob("*"))

        found = built.faults()

        assert {fault.code for fault in found} <= set(RULES)
        assert found
        assert set(Path(folder).rglob("*")) - set(before) == {built.json_file}


@settings(max_examples=100, deadline=None, database=None)
@given(runs=st.lists(st.integers(0, 5000), min_size=1, max_size=40))
def test_compressed_runs_are_read_as_pycocotools_wrote_them(runs: list[int]) -> None:
    size = [1, sum(runs)]
    if not size[1]:
        return
    text = coco_mask.frPyObjects({"size": size, "counts": runs}, *size)["counts"].decode()

    assert decompressed(text) == runs


@pytest.mark.parametrize("text", ["", "o", "ooooooooooo0", "é", "\x00", " "])
def test_compressed_runs_that_break_off_are_refused(text: str) -> None:
    assert decompressed(text) is None


def test_findings_keep_the_first_of_each_kind_and_count_all(build: Any, tmp_path: Path) -> None:
    built = build(tmp_path, 0, panoptic=False)
    template = built.content["annotations"][0] | {"area": -1}
    built.content["annotations"] += [template | {"id": 10**8 + number} for number in range(500)]

    findings = Findings(kept=3).take(built.faults(quick=True))

    assert findings.counts["area"] == 500
    assert sum(found.code == "area" for found in findings.first()) == 3
    assert "area: 497 more" in findings.table()


def test_names_with_control_characters_reach_no_terminal(build: Any, tmp_path: Path) -> None:
    built = build(tmp_path, 0, panoptic=True)
    built.content["images"][0]["file_name"] = "\x1b[2J\ud800.png"
    built.content["categories"][0]["name"] = " \x1b]0;x\x07"

    table = Findings(5).take(built.faults()).table()

    assert table.replace("\n", "").isprintable()
    json.dumps(table).encode()


@pytest.mark.parametrize("tail", [b"", b"\x00\x00", b"\x01\x02"])
def test_image_cut_off_in_its_pixels_is_broken_even_where_reading_exif_fails_first(
    build: Any, tmp_path: Path, tail: bytes
) -> None:
    built = build(tmp_path, 0, panoptic=True)
    built.image().write_bytes(built.image().read_bytes()[:41] + tail)

    assert [found.code for found in built.faults()] == ["image-broken"]


def test_nan_elsewhere_is_named_beside_a_fault_whose_message_has_such_letters(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "finance info"}, {"id": 2, "name": "finance info"}]
    content = {"images": [], "annotations": [], "categories": categories, "x": float("nan")}
    (tmp_path / "labels.json").write_text(json.dumps(content))

    assert {"category-name", "json-number"} <= set(codes(tmp_path / "labels.json"))
