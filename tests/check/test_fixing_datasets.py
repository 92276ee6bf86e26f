"""detr-d2 check --fix on whole datasets: where the copy lies, what is printed, what is refused; and real ones."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from detr_d2 import cli
from detr_d2.check import dataset_faults, find_sources, repairing
from detr_d2.data import registration
from detr_d2.errors import DatasetError

from detectron2.data import DatasetCatalog, MetadataCatalog


@pytest.fixture(autouse=True)
def _names_are_free_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Datasets that a test registers are forgotten after it."""
    before, entries = set(DatasetCatalog.list()), dict(registration._entries)
    forget(before & {"yard_train", "yard_val"})
    yield
    forget(set(DatasetCatalog.list()) - before)
    registration._entries.clear()
    registration._entries.update(entries)


def forget(names: set[str]) -> None:
    """Make names free, as they are in another process."""
    for name in names:
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)
        registration._entries.pop(name, None)


def check(*words: Any) -> int:
    forget({"yard_train", "yard_val"})
    return cli.main(["check", *map(str, words)])


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def errors_of(dataset: Path) -> list[Any]:
    forget({"yard_train", "yard_val"})
    return [fault for fault in dataset_faults(find_sources(str(dataset))) if fault.severity == "error"]


@pytest.fixture
def yard(yard_folder: Path, tmp_path: Path) -> Path:
    """A yard to be broken."""
    (tmp_path / "in").mkdir()
    return Path(shutil.copytree(yard_folder, tmp_path / "in" / "yard"))


def changed(path: Path, change: Any) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_register_yaml_stays_one_with_the_same_names_and_places(yard: Path, tmp_path: Path, capsys: Any) -> None:
    changed(yard / "panoptic_train.json", lambda content: content["annotations"][0]["segments_info"][0].pop("area"))
    before = digests(yard)

    assert check(yard / "register.yaml", "--fix", tmp_path / "out" / "fixed") == 0

    assert digests(yard) == before
    printed = capsys.readouterr().out
    assert "area-missing" in printed and "1 fixed and 0 left out" in printed and "0 errors, 0 warnings" in printed
    entries = yaml.safe_load((tmp_path / "out" / "fixed" / "register.yaml").read_text())
    assert entries == yaml.safe_load((yard / "register.yaml").read_text())
    copied = digests(tmp_path / "out" / "fixed")
    written = {name for name in copied if copied[name] != before.get(name)} - {"register.yaml", "changes.csv"}
    assert written == {"panoptic_train.json"}
    assert check(tmp_path / "out" / "fixed") == 0


def leaked(yard: Path, how: str) -> None:
    """Put an image of validation into training."""
    name = sorted(path.name for path in (yard / "images").glob("yard_val*"))[0]
    copy = "yard_train_copy.jpg"
    with Image.open(yard / "images" / name) as image:
        if how == "bytes":
            shutil.copy(yard / "images" / name, yard / "images" / copy)
        elif how == "smaller":
            image.resize((120, 96)).save(yard / "images" / copy, quality=60)
    size = {"width": 120, "height": 96} if how == "smaller" else {}
    entry = {"id": 10**6, "file_name": name if how == "file" else copy}

    def add(content: dict[str, Any]) -> None:
        content["images"].append({**content["images"][0], **entry, **size})

    changed(yard / "panoptic_train.json", add)
    changed(yard / "instances_train.json", add)


@pytest.mark.parametrize(
    ("how", "quick", "expected"),
    [
        *[("file", False, "split-leak"), ("file", True, "split-leak"), ("bytes", False, "split-leak")],
        *[("smaller", False, "split-near"), ("bytes", True, None)],
    ],
)
def test_image_of_both_splits_is_named(yard: Path, how: str, quick: bool, expected: str | None) -> None:
    leaked(yard, how)
    forget({"yard_train", "yard_val"})

    found = [fault for fault in dataset_faults(find_sources(str(yard)), quick) if fault.code.startswith("split")]

    assert [fault.code for fault in found] == ([expected] if expected else [])
    assert all(fault.image_id == 10**6 and "yard_val" in fault.message for fault in found)


def test_image_of_both_splits_is_left_out_of_training(yard: Path, tmp_path: Path) -> None:
    leaked(yard, "file")
    val = json.loads((yard / "panoptic_val.json").read_text())

    assert check(yard, "--fix", tmp_path / "out") == 0

    assert json.loads((tmp_path / "out" / "panoptic_val.json").read_text())["images"] == val["images"]
    for name in ("panoptic_train.json", "instances_train.json"):
        content = json.loads((tmp_path / "out" / name).read_text())
        assert 10**6 not in [entry["id"] for entry in content["images"]]
    assert errors_of(tmp_path / "out") == []


def test_panoptic_and_instances_lose_the_same_images(yard: Path, tmp_path: Path) -> None:
    content = json.loads((yard / "panoptic_train.json").read_text())
    gone = content["images"][2]["id"]
    (yard / "panoptic" / content["annotations"][2]["file_name"]).write_bytes(b"nothing")

    assert check(yard, "--fix", tmp_path / "out") == 0

    for name in ("panoptic_train.json", "instances_train.json"):
        left = json.loads((tmp_path / "out" / name).read_text())
        assert gone not in {entry["id"] for entry in left["images"]}
        assert gone not in {entry["image_id"] for entry in left["annotations"]}
    assert not (tmp_path / "out" / "images" / content["images"][2]["file_name"]).exists()


def test_exports_of_classes_stay_exports_of_classes(build: Any, tmp_path: Path) -> None:
    for number, name in enumerate(("brick", "pipe")):
        (tmp_path / "in" / name).mkdir(parents=True)
        built = build(tmp_path / "in" / name, number, panoptic=False)
        for entry in built.content["annotations"]:
            entry.update(iscrowd=1, attributes={"occluded": False})
        (tmp_path / "in" / name / "coco.json").write_text(json.dumps(built.content))

    assert check(tmp_path / "in", "--fix", tmp_path / "out") == 0

    sources = find_sources(str(tmp_path / "out"))
    assert sources.to_be_merged
    assert [Path(source.json_file).parent.name for source in sources.sources] == ["brick", "pipe"]
    assert {fault.code for fault in dataset_faults(sources)} == set()


def test_export_of_one_task_stays_one(build: Any, tmp_path: Path) -> None:
    (tmp_path / "in" / "annotations").mkdir(parents=True)
    built = build(tmp_path / "in", 1, panoptic=False)
    (tmp_path / "in" / "images").rename(tmp_path / "in" / "default")
    (tmp_path / "in" / "default").rename(tmp_path / "in" / "images_")
    (tmp_path / "in" / "images").mkdir()
    (tmp_path / "in" / "images_").rename(tmp_path / "in" / "images" / "default")
    built.content["annotations"][0]["area"] = -1
    (tmp_path / "in" / "annotations" / "instances_default.json").write_text(json.dumps(built.content))

    assert check(tmp_path / "in", "--fix", tmp_path / "out") == 0

    assert (tmp_path / "out" / "annotations" / "instances_default.json").is_file()
    assert len(list((tmp_path / "out" / "images" / "default").iterdir())) == 3
    assert check(tmp_path / "out") == 0


@pytest.mark.parametrize("together", [True, False])
def test_zip_of_cvat_becomes_a_folder(build: Any, tmp_path: Path, together: bool) -> None:
    (tmp_path / "in" / "annotations").mkdir(parents=True)
    built = build(tmp_path / "in", 1, panoptic=False)
    shutil.rmtree(tmp_path / "in" / "panoptic")
    built.content["annotations"][0]["area"] = -1
    (tmp_path / "in" / "annotations" / "instances_default.json").write_text(json.dumps(built.content))
    (tmp_path / "exports").mkdir()
    zipped = Path(shutil.make_archive(str(tmp_path / "exports" / "brick"), "zip", tmp_path / "in"))
    before = digests(tmp_path / "exports")

    assert check(zipped.parent if together else zipped, "--fix", tmp_path / "out") == 0

    brick = tmp_path / "out" / "brick" if together else tmp_path / "out"
    assert (brick / "annotations" / "instances_default.json").is_file()
    assert digests(brick / "images") == digests(tmp_path / "in" / "images")
    assert digests(tmp_path / "exports") == before
    assert check(tmp_path / "out") == 0


def test_single_json_gets_the_usual_folders(build: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    built = build(tmp_path / "in", 1, panoptic=True)
    built.json_file.write_text(json.dumps(built.content))
    (tmp_path / "in" / "images").rename(tmp_path / "photos")
    (tmp_path / "in" / "panoptic").rename(tmp_path / "in" / "ids")
    words = ("--images", tmp_path / "photos", "--panoptic", tmp_path / "in" / "ids")

    assert check(built.json_file, *words, "--fix", tmp_path / "out") == 0

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("changes.csv", "images", "labels.json", "panoptic")
    ]
    assert check(tmp_path / "out" / "labels.json") == 0


@pytest.mark.parametrize("what", ["file", "link", "full"])
def test_taken_place_is_refused_and_stays(yard: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    if what == "file":
        out.write_text("mine")
    elif what == "link":
        out.symlink_to(tmp_path)
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    before = digests(tmp_path)

    with pytest.raises(DatasetError, match="--fix"):
        check(yard, "--fix", out)
    assert digests(tmp_path) == before


def test_empty_folder_may_be_there(yard: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    assert check(yard, "--fix", tmp_path / "out") == 0

    assert (tmp_path / "out" / "register.yaml").is_file()


def test_interrupted_copy_leaves_nothing(yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(job: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(repairing, "copy_image", interrupted)

    with pytest.raises(KeyboardInterrupt):
        check(yard, "--fix", tmp_path / "out", "--workers", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_full_disk_is_one_sentence(yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(job: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(repairing, "copy_image", full)

    with pytest.raises(DatasetError, match="No space left on device"):
        check(yard, "--fix", tmp_path / "out", "--workers", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_quick_and_fix_exclude_each_other(yard: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="--quick"):
        check(yard, "--quick", "--fix", tmp_path / "out")


def test_every_change_stands_in_a_table_that_no_spreadsheet_takes_for_formulas(yard: Path, tmp_path: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        for entry in content["annotations"]:
            entry["segments_info"][0]["category_id"] = "=cmd()"

    changed(yard / "panoptic_train.json", rename)

    assert check(yard, "--fix", tmp_path / "out", "--limit", "1") == 0

    with open(tmp_path / "out" / "changes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert sum(row[1] == "category-id" for row in rows) == 6
    assert not [cell for row in rows for cell in row if cell[:1] in ("=", "@", "+")]


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("coco128_panoptic/val", set()),
        ("construction_sample/cvat", set()),
        ("coco_sample", {("removed", "json-key")}),
        ("tiny_coco_things", {("fixed", code) for code in ("box-off", "area-stale", "rle-uncompressed")}),
        ("construction_sample/annotations/panoptic_val_small.json", {("fixed", "area-fraction")}),
    ],
)
def test_real_datasets_are_repaired(
    shared_data: Path, tmp_path: Path, dataset: str, expected: set[tuple[str, str]]
) -> None:
    out = tmp_path / "out"

    assert check(shared_data / dataset, "--fix", out) == 0

    with open(out / "changes.csv", encoding="utf-8", newline="") as file:
        assert {(row["action"], row["fault"]) for row in csv.DictReader(file)} == expected
    assert errors_of(out) == []


def test_real_annotations_of_construction_get_their_holes_back(shared_data: Path, tmp_path: Path) -> None:
    content = json.loads((shared_data / "construction_sample" / "annotations" / "coco_val_small.json").read_text())
    small = [entry for entry in content["images"] if entry["width"] * entry["height"] < 300_000][:60]
    kept = {entry["id"] for entry in small}
    content["images"] = small
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in kept]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "coco.json").write_text(json.dumps(content))

    assert check(tmp_path / "in", "--fix", tmp_path / "out") == 0

    with open(tmp_path / "out" / "changes.csv", encoding="utf-8", newline="") as file:
        changes = list(csv.DictReader(file))
    holed = {int(row["segment id"]) for row in changes if row["fault"] == "polygon-holes"}
    assert len(holed) > 10
    said = {entry["id"]: entry["area"] for entry in content["annotations"]}
    found = json.loads((tmp_path / "out" / "coco.json").read_text())["annotations"]
    ratios = [entry["area"] / said[entry["id"]] for entry in found if entry["id"] in holed]
    assert np.abs(np.array(ratios) - 1).max() < 0.2
    assert errors_of(tmp_path / "out") == []
