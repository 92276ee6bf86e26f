"""detr-d2 check: what it may be given, what it prints, its exit codes; and real datasets."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from detr_d2 import cli
from detr_d2.check import RULES, dataset_faults, find_sources
from detr_d2.check.report import check_before_training
from detr_d2.errors import ConfigError, DatasetError, MissingFileError


def check(*words: Any) -> int:
    return cli.main(["check", *map(str, words)])


def counts(dataset: Any, **arguments: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for fault in dataset_faults(find_sources(str(dataset)), **arguments):
        found[fault.code] = found.get(fault.code, 0) + 1
    return found


@pytest.mark.parametrize("dataset", ["", "register.yaml", "panoptic_train.json", "instances_val.json"])
def test_yard_has_no_fault_however_it_is_named(yard_folder: Path, dataset: str, capsys: Any) -> None:
    assert check(yard_folder / dataset) == 0

    assert "0 errors, 0 warnings" in capsys.readouterr().out


def test_faults_are_shown_and_written_and_end_with_one(yard_folder: Path, tmp_path: Path, capsys: Any) -> None:
    broken = tmp_path / "yard"
    shutil.copytree(yard_folder, broken)
    content = json.loads((broken / "panoptic_train.json").read_text())
    segment = content["annotations"][1]["segments_info"][0]
    segment["category_id"] = 99
    (broken / "panoptic_train.json").write_text(json.dumps(content))

    assert check(broken / "panoptic_train.json", "--json", tmp_path / "faults.json") == 1

    printed = capsys.readouterr().out
    assert "category-unknown" in printed and str(segment["id"]) in printed and "1 error, 0 warnings" in printed
    assert f"detr-d2 check {shlex.quote(str(broken / 'panoptic_train.json'))} --fix OUT" in printed
    report = json.loads((tmp_path / "faults.json").read_text())
    assert (report["errors"], report["warnings"], report["counts"]) == (1, 0, {"category-unknown": 1})
    (fault,) = report["faults"]
    assert (fault["image_id"], fault["segment_id"]) == (content["annotations"][1]["image_id"], segment["id"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faults.json", "yard"]


def test_json_to_the_terminal_is_nothing_but_json(yard_folder: Path, capsys: Any) -> None:
    assert check(yard_folder, "--quick", "--json", "-") == 0

    assert json.loads(capsys.readouterr().out)["mode"] == "quick"


def test_processes_find_the_same_in_the_same_order(yard_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detr_d2 import parallel
    from detr_d2.check import dataset

    sources = find_sources(str(yard_folder / "instances_train.json"), str(yard_folder))  # no image is there
    alone = list(dataset_faults(sources))

    monkeypatch.setattr(dataset, "in_processes", lambda *arguments: parallel.in_processes(*arguments, smallest=1))
    together = list(dataset_faults(sources, workers=2))

    assert alone == together != []


def test_what_is_nested_too_deeply_for_another_process_is_done_in_this_one(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detr_d2 import parallel
    from detr_d2.check import dataset

    built = build(tmp_path, 1, panoptic=False)
    built.content["annotations"][0].update(attributes="NESTED", area=7)
    sent = json.dumps(built.content).replace(json.dumps("NESTED"), "[" * 900 + "]" * 900)
    built.json_file.write_text(sent)
    monkeypatch.setattr(dataset, "in_processes", lambda *arguments: parallel.in_processes(*arguments, smallest=1))

    found = dataset_faults(find_sources(str(built.json_file)), workers=2)

    assert [fault.code for fault in found] == ["area-stale"]


def test_exports_of_classes_are_looked_at_together(build: Any, tmp_path: Path) -> None:
    for name in ("brick", "pipe"):
        (tmp_path / name).mkdir()
        built = build(tmp_path / name, 1, panoptic=False)
        built.content["categories"][1]["name"] = {"brick": "wheel_loader", "pipe": "Wheel-Loader"}[name]
        (tmp_path / name / "coco.json").write_text(json.dumps(built.content))

    assert counts(tmp_path) == {"path-collision": 3, "id-shared": 1, "category-name-alike": 1}


def test_crowds_of_cvat_that_are_all_of_a_class_are_an_error(build: Any, tmp_path: Path) -> None:
    built = build(tmp_path, 1, panoptic=False)
    for entry in built.content["annotations"]:
        entry.update(iscrowd=1, attributes={"occluded": False})

    found = [fault.code for fault in built.faults()]

    assert sorted(found) == ["crowd"] * 6 + ["crowd-only"] * 2


def test_unknown_dataset_names_what_is_registered() -> None:
    with pytest.raises(MissingFileError, match="construction_panoptic_train"):
        find_sources("no_such_dataset")


def test_folder_without_a_dataset_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"coco\.json"):
        find_sources(str(tmp_path))


@pytest.mark.parametrize("mode", ["quick", "full"])
def test_training_stops_at_a_fault_and_says_how_to_see_all(tiny_config: Any, yard_folder: Path, mode: str) -> None:
    from detr_d2.data import register, register_from_config

    cfg = tiny_config("DATASETS.CHECK", mode)
    register_from_config(cfg)
    assert check_before_training(cfg) == []
    register(f"images_gone_{mode}", yard_folder / "panoptic", instances_json=yard_folder / "instances_train.json")
    cfg.DATASETS.TRAIN = (f"images_gone_{mode}",)

    with pytest.raises(DatasetError, match=r"(?s)image-missing.*1 more.*detr-d2 check"):
        check_before_training(cfg)
    cfg.DATASETS.CHECK = "off"
    assert check_before_training(cfg) == []
    cfg.DATASETS.CHECK = "some"
    with pytest.raises(ConfigError, match="quick, full and off"):
        check_before_training(cfg)


def test_document_explains_every_kind_of_fault(project_folder: Path) -> None:
    text = (project_folder / "docs" / "data.md").read_text()

    for code, kind in RULES.items():
        assert f"| `{code}` | {kind.severity} |" in text


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("coco128_panoptic/val", {"category-gap": 1, "crowd": 2}),
        ("coco128_panoptic/train", {"category-gap": 1, "crowd": 6}),
        ("coco_sample/panoptic.json", {"category-gap": 1, "crowd": 3}),
        ("construction_sample/cvat", {"id-shared": 1, "polygon-crossing": 2, "overlap": 1}),
    ],
)
def test_real_datasets_have_the_faults_that_are_known(
    shared_data: Path, dataset: str, expected: dict[str, int]
) -> None:
    assert counts(shared_data / dataset) == expected


def test_real_annotations_of_construction_are_wrong_where_they_are(shared_data: Path) -> None:
    found = list(dataset_faults(find_sources(str(shared_data / "construction_sample" / "annotations")), quick=True))

    empty = {fault.segment_id for fault in found if fault.code == "mask-empty"}
    codes = [fault.code for fault in found]
    assert empty == {26956, 26986, 30996}
    assert codes.count("area-fraction") == 691
    assert codes.count("area-sum") == 6
    assert codes.count("json-other") == 1
