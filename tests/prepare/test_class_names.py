"""Class names as people write them, and the classes that they become."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_d2.data.categories import construction_categories
from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.labels.records import ClassRecord, Export, FileRef
from detr_d2.labels.rules.categories import find_name, near_names, near_pairs, normal_name, spelling
from detr_d2.prepare.classes import REST, VOID, build_class_table, read_known
from detr_d2.prepare.stuff.policies import ClassMapping

MISC = ClassRecord("misc", False)


def export(*classes: str | ClassRecord, name: str = "job") -> Export:
    records = tuple(one if isinstance(one, ClassRecord) else ClassRecord(one) for one in classes)
    return Export(name, "coco-instances", FileRef(Path("coco.json")), records, ())


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("concrete_pump_(50%)", "concrete_pump"),
        ("skid_steer_loader_(bobcat)", "skid_steer_loader"),
        ("dump_truck___tipper_truck", "dump_truck_tipper_truck"),
        ("structural_steel_-_channel", "structural_steel_channel"),
        (" Water Tank ", "water_tank"),
        ("rmc batching plant [old (2)]", "rmc_batching_plant"),
    ],
)
def test_raw_names_of_the_wild_become_construction_classes(raw: str, name: str) -> None:
    table = build_class_table([export(raw)], [MISC], "construction")

    assert table.classes[table.numbers[raw]].name == name
    assert table.classes == construction_categories()


def test_brackets_belong_to_a_name_unless_a_list_has_it_without_them() -> None:
    assert normal_name("Dump truck - (10t)") == "dump_truck_10t"
    assert normal_name("Ｗａｎｄ ") == "wand"
    assert find_name("Dump truck - (10t)", {"dump_truck": "dump truck"}) == "dump truck"
    assert find_name("Dump truck - (10t)", {"dump_truck": "dump truck", "dump_truck_10t": "large"}) == "large"
    assert find_name("Dump truck - (10t)", {"truck": "truck"}) is None


@pytest.mark.parametrize("raw", ["Dump truck - (10t)", "dump_truck__(10t)", " DUMP-TRUCK [10t] "])
def test_whoever_reads_a_name_of_a_list_finds_the_same_class(raw: str, tmp_path: Path) -> None:
    """``--categories``, what ``--classes`` makes of a name, and the classes of a model or of masks."""
    listed = tmp_path / "list.yaml"
    listed.write_text("- {id: 1, name: dump truck, isthing: 1}\n- {id: 2, name: sky-other-merged, isthing: 0}\n")
    rules = tmp_path / "map.yaml"
    rules.write_text(f"lorry: {raw!r}\n")

    table = build_class_table([export(raw, "lorry", "Sky - other merged (blue)")], [], str(listed), rules)

    assert table.numbers == {raw: 0, "lorry": 0, "Sky - other merged (blue)": 1}
    assert ClassMapping("coco").name_of("Sky - other merged (blue)", False) == "sky-other-merged"


def test_unknown_names_are_listed_all_at_once_with_near_ones() -> None:
    with pytest.raises(DatasetError) as caught:
        build_class_table([export("grader"), export("wheel_loadr", "Zebra 9")], [], "construction")

    message = str(caught.value)
    assert (
        "2 class names" in message and "wheel_loader" in message and "'Zebra 9'" in message and "--classes" in message
    )


def test_found_classes_are_stuff_first_and_spelled_the_usual_way() -> None:
    table = build_class_table([export("pipe", " Brick stack"), export("brick_stack")], [MISC])

    assert [(c.id, c.name, c.is_thing) for c in table.classes] == [
        (1, "misc", False),
        (2, "pipe", True),
        (3, "brick_stack", True),
    ]
    assert table.matched_from(2) == [" Brick stack", "brick_stack"]
    assert len({category.color for category in table.classes}) == 3


def test_spelling_prefers_the_normal_name_and_else_the_first_one() -> None:
    assert spelling(["Traffic  light ", "traffic light"]) == "Traffic light"
    assert spelling(["Brick", "brick"]) == "brick"


def test_a_classes_file_renames_leaves_out_and_makes_void(tmp_path: Path) -> None:
    rules = tmp_path / "map.yaml"
    rules.write_text("Bricks: brick_stack\nshadow: null\nblurred: void\nwand: {name: wall, isthing: 0}\n")

    table = build_class_table([export("bricks", "shadow", "Blurred", "wand")], [], classes=rules)

    assert [(c.name, c.is_thing) for c in table.classes] == [("wall", False), ("brick_stack", True)]
    assert table.numbers == {"bricks": 1, "shadow": REST, "Blurred": VOID, "wand": 0}


@pytest.mark.parametrize(
    "text", ["[1, 2]", "brick: 3", "brick: {isthing: 1}", "brick: {name: a, isthing: 2}", "a: b: c"]
)
def test_a_classes_file_that_is_not_understood_is_refused_by_name(tmp_path: Path, text: str) -> None:
    rules = tmp_path / "map.yaml"
    rules.write_text(text)

    with pytest.raises(DatasetError, match=r"map\.yaml"):
        build_class_table([export("brick")], [], classes=rules)


def test_a_missing_classes_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere"):
        build_class_table([export("brick")], [], classes=tmp_path / "nowhere.yaml")


def test_a_class_that_is_thing_and_stuff_is_refused() -> None:
    with pytest.raises(DatasetError, match="stuff in another"):
        build_class_table([export(ClassRecord("Misc", True))], [MISC])


def test_categories_that_were_written_can_be_read_again(tmp_path: Path) -> None:
    from detr_d2.prepare.finishing import write_categories

    write_categories(tmp_path, construction_categories())

    assert read_known(str(tmp_path / "categories.yaml")) == construction_categories()


def test_near_pairs_are_slips_of_the_pen_and_not_numbers() -> None:
    assert near_pairs(["wheel_loader", "wheel_loadr", "tank 1", "tank 2", "grader"]) == [
        ("wheel_loader", "wheel_loadr")
    ]
    assert near_names("wheelloader (big)", ["grader", "wheel_loader"]) == ["wheel_loader"]


def test_a_class_that_the_yaml_misspells_is_named_as_it_stands_there(tmp_path: Path) -> None:
    rules = tmp_path / "map.yaml"
    rules.write_text("smoke_detectors: smoke_detectr\n")

    with pytest.raises(DatasetError, match=r"which --classes makes 'smoke_detectr': near are .*smoke_detectors"):
        build_class_table([export("smoke_detectors")], [], "construction", rules)


def test_a_line_for_a_name_that_no_export_has_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("Smoke detecters: detector\nbrick: stone\n")

    table = build_class_table([export("smoke_detectors", "Brick")], [], "auto", path)

    (warning,) = [record.getMessage() for record in caplog.records if "no export has" in record.getMessage()]
    assert "'Smoke detecters'" in warning and "near are smoke_detectors" in warning
    assert table.classes[table.numbers["Brick"]].name == "stone"


def test_a_list_whose_classes_only_mention_isthing_is_of_things(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('{"categories": [{"id": 1, "name": "isthing"}]}')

    (found,) = read_known(str(tmp_path / "classes.json"))

    assert found.name == "isthing" and found.is_thing
