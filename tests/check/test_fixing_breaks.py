"""Datasets broken in each of the ways: the repaired copy has no error, says so, and leaves the rest as it was."""

from __future__ import annotations

import csv
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detr_d2.check import RULES, Source, Sources, dataset_faults
from detr_d2.check.copying import CHANGES, fix_dataset
from detr_d2.errors import DatasetError
from tests.check import broken_files, broken_json
from tests.check.breaking import SEGMENT, Break, segments_of

CASES = [*broken_json.WAYS.cases, *broken_files.WAYS.cases]
#: Warnings that only a person can decide about, and what a repaired copy shows of other faults.
STAY = {
    *("category-gap", "category-name-alike", "polygon-crossing", "overlap", "crowd", "png-void"),
    *("image-orientation", "image-unlabelled", "image-suffix", "path-collision"),
}


def digests(folder: Path) -> dict[str, str]:
    """Each file of a folder, with a digest of its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def fixed(built: Any, out: Path) -> list[dict[str, str]]:
    """What ``--fix`` says that it changed; nothing of the original does, and the copy has no error."""
    built.json_file.write_text(json.dumps(built.content))
    before = digests(built.folder)
    source = Source(str(built.json_file), str(built.folder / "images"))
    if built.panoptic:
        source = Source(source.json_file, source.images, str(built.folder / "panoptic"))

    _, left = fix_dataset(Sources((source,)), str(out), str(built.folder))

    assert digests(built.folder) == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    copy = Source(str(out / "labels.json"), str(out / "images"), str(out / "panoptic") if built.panoptic else None)
    found = list(dataset_faults(Sources((copy,))))
    assert {fault.code for fault in found if fault.severity == "error"} == set(), found
    assert {fault.code: 0 for fault in found}.keys() == left.counts.keys()
    with open(out / CHANGES, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def of_other_images(content: dict[str, Any], image_id: Any) -> list[Any]:
    """Images and labels without those of one image."""
    images = [entry for entry in content["images"] if entry["id"] != image_id]
    return images + [entry for entry in content["annotations"] if entry["image_id"] != image_id]


@pytest.mark.parametrize(("broken", "code", "named", "panoptic"), CASES)
@settings(max_examples=2, deadline=None, database=None)
@given(seed=st.integers(0, 2**32), number=st.integers(0, 2), which=st.integers(0, 1))
def test_break_is_fixed_or_left_out_and_nothing_else_changes(
    build: Any, broken: Break, code: str, named: tuple[bool, bool], panoptic: bool, seed: int, number: int, which: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as beside:
        built = build(Path(folder), seed, panoptic)
        image = built.content["images"][number]
        broken(built, image, segments_of(built, image)[which])

        changes = fixed(built, Path(beside) / "out")
        content = json.loads((Path(beside) / "out" / "labels.json").read_text())
        copied = digests(Path(beside) / "out")

        assert (code in {change["fault"] for change in changes}) or code in STAY or code == "area-sum"
        assert bool(changes) == (code not in STAY), changes
        if named == SEGMENT:
            assert of_other_images(content, image["id"]) == of_other_images(built.content, image["id"])
            same = {name for name, digest in copied.items() if digest == digests(built.folder).get(name)}
            assert len([name for name in same if name.startswith("images/")]) >= 2
            assert {change["image id"] for change in changes} <= {str(image["id"]), ""}


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), panoptic=st.booleans(), data=st.data())
def test_several_breaks_at_once_leave_a_copy_that_passes_or_a_refusal(
    build: Any, seed: int, panoptic: bool, data: st.DataObject
) -> None:
    ways = [case.values for case in CASES if case.values[3] == panoptic]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as beside:
        built = build(Path(folder), seed, panoptic)
        for broken, *_ in data.draw(st.lists(st.sampled_from(ways), min_size=2, max_size=5)):
            try:
                image = data.draw(st.sampled_from(built.content["images"]))
                broken(built, image, data.draw(st.sampled_from(segments_of(built, image))))
            except Exception:  # an earlier break has taken away what this one needs
                continue
        try:
            changes = fixed(built, Path(beside) / "out")
        except DatasetError as error:
            assert "nothing of the dataset can be fixed" in str(error)
            assert not list(Path(beside).iterdir())
            return

        assert {change["fault"] for change in changes} <= set(RULES)


@settings(max_examples=5, deadline=None, database=None)
@given(seed=st.integers(0, 2**32), panoptic=st.booleans())
def test_copy_of_a_dataset_without_a_fault_is_the_same(build: Any, seed: int, panoptic: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as beside:
        built, out = build(Path(folder), seed, panoptic), Path(beside) / "out"

        assert fixed(built, out) == []

        assert json.loads((out / "labels.json").read_text()) == built.content
        original = {name: digest for name, digest in digests(built.folder).items() if name != "labels.json"}
        assert original.items() <= digests(out).items()
