"""From labels to segments: the PNG, its areas and its boxes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from detr_d2.errors import DatasetError
from detr_d2.labels.panoptic_png import encode_ids
from detr_d2.labels.records import Box, ClassRecord, Export, FileRef, ImageRecord, Label, Polygons
from detr_d2.prepare.classes import ClassTable, CrowdRule, LabelRules, build_class_table, decide_crowds
from detr_d2.prepare.drawing import Canvas, Region, Segment, draw_labels, fill_rest, measure
from detr_d2.prepare.options import OVERLAPS, Overlap

SIZE = (20, 24)
CLASSES = (ClassRecord("wall", False), ClassRecord("pipe"), ClassRecord("drum"), ClassRecord("misc", False))


def export(*labels: Label, is_cvat: bool = True) -> Export:
    image = ImageRecord(FileRef(Path("1.jpg")), "1.jpg", SIZE[1], SIZE[0], labels)
    return Export("job", "coco-instances", FileRef(Path("coco.json")), CLASSES, (image,), is_cvat=is_cvat)


TABLE: ClassTable = build_class_table([export()], [])


def box(name: str, left: float, top: float, right: float, bottom: float, **more: object) -> Label:
    return Label(name, Box(left, top, right, bottom), **more)  # type: ignore[arg-type]


def drawn(*labels: Label, overlap: Overlap = "last", min_area: int = 0) -> Canvas:
    return draw_labels(labels, LabelRules(TABLE, CrowdRule(), overlap, min_area), SIZE, True, "human")


def png_ids(canvas: Canvas, segments: list[Segment]) -> np.ndarray:
    """What a program reads from the PNG."""
    with Image.open(io.BytesIO(encode_ids(canvas.numbers, [0, *(one.id for one in segments)]))) as image:
        colors = np.asarray(image).astype(np.int64)
    return colors @ [1, 256, 65536]


def dropped(canvas: Canvas) -> list[tuple[str, str]]:
    return canvas.dropped


@st.composite
def labels(draw: st.DrawFn) -> list[Label]:
    made = []
    for number in range(draw(st.integers(0, 7))):
        left, top = draw(st.integers(-3, SIZE[1])), draw(st.integers(-3, SIZE[0]))
        shape = Box(left, top, left + draw(st.integers(0, 15)), top + draw(st.integers(0, 15)))
        name = draw(st.sampled_from(["wall", "pipe", "drum"]))
        made.append(Label(name, shape, draw(st.booleans()), draw(st.integers(0, 2)), number, draw(st.integers(0, 2))))
    return made


@settings(deadline=None, max_examples=80)
@given(made=labels(), overlap=st.sampled_from(OVERLAPS), min_area=st.sampled_from([0, 5, 40]), fills=st.booleans())
def test_segments_are_exactly_what_the_png_shows(
    made: list[Label], overlap: Overlap, min_area: int, fills: bool
) -> None:
    canvas = drawn(*made, overlap=overlap, min_area=min_area)
    if fills:
        fill_rest(canvas, [Region("misc", np.ones(SIZE, bool), "rest")], TABLE, min_area)

    segments = measure(canvas, TABLE)
    ids = png_ids(canvas, segments)

    assert set(np.unique(ids)) - {0} == {segment.id for segment in segments}
    assert len({segment.id for segment in segments}) == len(segments)
    stuff = [s.class_number for s in segments if not TABLE.classes[s.class_number].is_thing]
    assert len(set(stuff)) == len(stuff)
    for segment in segments:
        mask = ids == segment.id
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        sides = (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
        assert (segment.area, segment.bbox) == (mask.sum(), sides)
        assert segment.area >= max(1, min_area)
        if TABLE.classes[segment.class_number].is_thing:
            runs = {"size": list(SIZE), "counts": segment.runs.encode()}
            assert (coco_mask.decode(runs).astype(bool) == mask).all()


@settings(deadline=None, max_examples=60)
@given(made=labels(), overlap=st.sampled_from(OVERLAPS))
def test_every_label_is_a_segment_or_dropped_for_a_reason(made: list[Label], overlap: Overlap) -> None:
    things = [label for label in made if label.class_name != "wall"]

    canvas = drawn(*things, overlap=overlap, min_area=10)

    assert len(canvas.segments) + len(canvas.dropped) == len(things)


def test_a_thing_cut_in_two_stays_one_segment() -> None:
    canvas = drawn(box("pipe", 0, 8, 24, 12), box("drum", 10, 0, 14, 20))

    segments = measure(canvas, TABLE)

    assert [(TABLE.classes[s.class_number].name, s.area, s.bbox) for s in segments] == [
        ("pipe", 80, (0, 8, 24, 4)),
        ("drum", 80, (10, 0, 4, 20)),
    ]


def test_labels_of_a_group_are_one_object_and_of_no_group_two() -> None:
    left, right = {"left": 0, "top": 0, "right": 4, "bottom": 4}, {"left": 8, "top": 0, "right": 12, "bottom": 4}

    grouped = drawn(box("pipe", **left, group=3), box("pipe", **right, group=3), box("drum", 15, 0, 18, 4, group=3))
    apart = drawn(box("pipe", **left), box("pipe", **right))

    assert [segment.area for segment in measure(grouped, TABLE)] == [32, 12]
    assert dropped(grouped) == [("pipe", "joined")]
    assert len(apart.segments) == 2


def test_small_hidden_and_empty_labels_are_counted_by_reason() -> None:
    canvas = drawn(
        box("drum", 5, 5, 7, 7),
        box("pipe", 4, 4, 12, 12),
        box("drum", 0, 0, 2, 2),
        box("pipe", 30, 0, 40, 4),
        Label("drum", Polygons(()), id=9),
        min_area=5,
    )

    assert sorted(dropped(canvas)) == [
        ("drum", "covered"),
        ("drum", "mask-empty"),
        ("drum", "small"),
        ("pipe", "mask-empty"),
    ]
    assert canvas.is_taken[0, 0]  # void: a person said that something is there, so no stuff policy fills it


def test_stuff_given_twice_is_one_segment_of_who_gave_more() -> None:
    def source_with(labelled_rows: int) -> list[tuple[str, float | None, int]]:
        canvas = drawn(box("wall", 0, 0, 24, labelled_rows))
        fill_rest(canvas, [Region("wall", np.ones(SIZE, bool), "model", 0.9)], TABLE, 0)
        return [(segment.source, segment.score, segment.area) for segment in measure(canvas, TABLE)]

    assert source_with(15) == [("human", None, 480)]
    assert source_with(5) == [("model", 0.9, 480)]


def test_regions_fill_only_what_is_free_the_first_one_wins_and_void_stays_void() -> None:
    canvas = drawn(box("pipe", 0, 0, 24, 10))
    ring = np.zeros(SIZE, bool)
    ring[10:12] = True

    fill_rest(canvas, [Region("", ring, "rest"), Region("misc", np.ones(SIZE, bool), "rest")], TABLE, 0)

    segments = measure(canvas, TABLE)
    ids = png_ids(canvas, segments)
    assert (ids[10:12] == 0).all()
    assert [segment.area for segment in segments] == [240, 8 * 24]


def test_void_and_left_out_classes_differ_in_what_may_fill_them(tmp_path: Path) -> None:
    rules = tmp_path / "map.yaml"
    rules.write_text("drum: void\nwall: null\n")
    table = build_class_table([export()], [], classes=rules)
    label_rules = LabelRules(table, CrowdRule(), "last", 0)

    canvas = draw_labels([box("drum", 0, 0, 4, 4), box("wall", 8, 0, 12, 4)], label_rules, SIZE, True, "human")

    assert canvas.is_taken.sum() == 16 and canvas.is_taken[0, 0]
    assert canvas.segments == [] and dropped(canvas) == [("drum", "void"), ("wall", "left-out")]


def test_overlaps_are_named_where_they_are_errors() -> None:
    canvas = drawn(box("pipe", 0, 0, 10, 10, id=7), box("drum", 5, 5, 15, 15, id=8), overlap="error")

    assert canvas.overlaps == [(7, 8, 25)]


def test_a_class_that_its_export_does_not_list_is_refused() -> None:
    with pytest.raises(DatasetError, match="ghost"):
        drawn(box("ghost", 0, 0, 5, 5))


def brush(name: str, is_crowd: bool) -> Label:
    return box(name, 0, 0, 5, 5, is_crowd=is_crowd)


@pytest.mark.parametrize(
    ("choice", "pipe_stays", "drum_stays"), [("auto", False, True), ("keep", True, True), ("clear", False, False)]
)
def test_crowds_are_cleared_where_a_class_has_nothing_else(choice: str, pipe_stays: bool, drum_stays: bool) -> None:
    painted = export(brush("pipe", True), brush("drum", True), brush("drum", False))

    rule, notes = decide_crowds([painted], TABLE, choice)  # type: ignore[arg-type]

    assert rule.is_crowd(True, TABLE.numbers["pipe"], True) is pipe_stays
    assert rule.is_crowd(True, TABLE.numbers["drum"], True) is drum_stays
    assert {note.code for note in notes} == ({"crowd-cleared", "crowd-kept"} if choice == "auto" else set())


def test_crowds_from_elsewhere_than_cvat_are_real_ones() -> None:
    rule, _ = decide_crowds([export(brush("pipe", True)), export(brush("pipe", True), is_cvat=False)], TABLE, "auto")

    assert rule.is_crowd(True, TABLE.numbers["pipe"], is_cvat=False)
    assert not rule.is_crowd(True, TABLE.numbers["pipe"], is_cvat=True)


@pytest.mark.parametrize("count", [1, 255, 256, 700])
def test_a_png_of_any_number_of_segments_has_their_ids(count: int) -> None:
    chance = np.random.default_rng(count)
    ids = chance.choice(256**3, count, replace=False)
    numbers = np.asfortranarray(chance.integers(0, count, (31, 17)).astype(np.uint16))

    with Image.open(io.BytesIO(encode_ids(numbers, ids.tolist()))) as image:
        colors = np.asarray(image).astype(np.int64)

    assert image.mode == "RGB"
    assert (colors @ [1, 256, 65536] == ids[numbers]).all()
